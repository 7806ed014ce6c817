//! The Python package: its wheel is built, installed into fresh environments, and tested there.
//!
//! Owns: that pip and uv install it without a network, that its own tests pass in the installed
//! form, that it is clean and typed. Does not own: what it does (`python/tests`).
//! Rule: nothing is imported from the checkout; the packages that it needs are those of the
//! environment `function`.

use std::path::{Path, PathBuf};
use std::process::Command;
use streamctl_tests::places::{binary, inherited, one_system_at_a_time, servers_folder};

fn package() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    path.canonicalize().unwrap()
}

fn environment() -> PathBuf {
    let path = servers_folder().join("function");
    assert!(
        path.join("bin/python").exists(),
        "{} is missing: `make test` installs it",
        path.display()
    );
    path
}

/// Runs a command in a folder, and returns what it prints; panics with its output if it fails.
#[track_caller]
fn run(folder: &Path, program: &Path, words: &[&str], env: &[(&str, &str)]) -> String {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .env_clear()
        .envs(inherited())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {words:?}: {}\n{out}\n{err}",
        program.display(),
        output.status
    );
    out.into_owned()
}

/// Builds the wheel with the program of this build, and returns its path.
fn wheel(folder: &Path) -> String {
    let program = binary("streamctl");
    let env = [
        ("STREAMCTL_PROGRAM", program.to_str().unwrap()),
        ("STREAMCTL_STRIP", "1"),
    ];
    let backend = package().join("backend.py");
    let words = [backend.to_str().unwrap(), "wheel", folder.to_str().unwrap()];
    let printed = run(folder, &environment().join("bin/python"), &words, &env);
    printed.lines().last().unwrap().to_owned()
}

/// A fresh environment that sees the packages of `function`; pip installs the wheel into it.
fn installed(folder: &Path, wheel: &str) -> PathBuf {
    let python = environment().join("bin/python");
    let fresh = folder.join("fresh");
    let name = fresh.to_str().unwrap();
    run(folder, &python, &["-m", "venv", "--without-pip", name], &[]);
    let fresh = fresh.join("bin/python");
    let ask = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = run(folder, &python, &["-c", ask], &[]);
    let own = run(folder, &fresh, &["-c", ask], &[]);
    std::fs::write(Path::new(own.trim()).join("function.pth"), packages).unwrap();
    // With its extras: pip refuses if a package that the wheel asks for is not there.
    let with_extras = format!("{wheel}[client,pandas,polars,pyspark]");
    let words = [
        "-m",
        "pip",
        "--python",
        fresh.to_str().unwrap(),
        "install",
        "--quiet",
        "--no-index",
        "--disable-pip-version-check",
        &with_extras,
    ];
    run(folder, &python, &words, &[]);
    fresh
}

#[test]
fn the_wheel_is_installed_without_a_network_and_passes_its_tests() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wheel = wheel(folder);

    let python = installed(folder, &wheel);
    let version = format!("streamctl {}\n", env!("CARGO_PKG_VERSION"));
    let words = ["-m", "streamctl", "--version"];
    assert_eq!(run(folder, &python, &words, &[]), version);

    let links = environment().join("wheels");
    let cache = folder.join("uv");
    let words = [
        "tool",
        "run",
        "--offline",
        "--no-index",
        "--find-links",
        links.to_str().unwrap(),
        "--from",
        &wheel,
        "streamctl",
        "--version",
    ];
    let env = [("UV_CACHE_DIR", cache.to_str().unwrap())];
    let uv = environment().join("bin/uv");
    assert_eq!(run(folder, &uv, &words, &env), version);

    let programs = binary("streamctl");
    let env = [(
        "STREAMCTL_PROGRAMS",
        programs.parent().unwrap().to_str().unwrap(),
    )];
    let config = package().join("pyproject.toml");
    let tests = package().join("tests");
    let words = [
        "-m",
        "pytest",
        "-c",
        config.to_str().unwrap(),
        "--basetemp",
        "tests",
        tests.to_str().unwrap(),
    ];
    let printed = run(folder, &python, &words, &env);
    assert!(!printed.contains("skipped"), "{printed}");
}

#[test]
fn the_package_is_formatted_clean_and_typed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let cache = cache.to_str().unwrap();
    let bin = environment().join("bin");
    let package = package();
    let ruff = bin.join("ruff");
    run(&package, &ruff, &["check", "--no-cache", "."], &[]);
    let words = ["format", "--no-cache", "--check", "."];
    run(&package, &ruff, &words, &[]);
    let words = [
        "-m",
        "mypy",
        "--cache-dir",
        cache,
        "streamctl",
        "backend.py",
    ];
    run(&package, &bin.join("python"), &words, &[]);
}
