//! The packages of a function: its environment is made of real wheels, once, and is what was pinned.
//!
//! Owns: every kind of file that pins packages, wheels in a folder and in S3. Does not own: what a
//! function does with them (`functions`).
//! Rule: the wheels are made here, so that nothing but an installer of the environment `function`
//! decides, and no network is needed.

use crate::functions::{Scene, text};
use crate::model_job;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use streamctl_tests::places::{
    function_python as python, inherited, one_system_at_a_time, servers_folder,
};
use streamctl_tests::python::Python;

const BODY: &str = "def greeting(): return 'from the wheel'\n";
const TRANSFORM: &str = "\
import tiny_greeter

def process_batch(frame, batch_id):
    return frame[['uuid']].assign(greeting=tiny_greeter.greeting())
";

/// Makes the wheel, and returns the line that pins it.
fn wheel_in(folder: &str, env: Vec<(String, String)>) -> String {
    wheel_of("tiny_greeter", "1.0", folder, env)
}

fn wheel_of(name: &str, version: &str, folder: &str, env: Vec<(String, String)>) -> String {
    let flags = ["--folder", folder, "--name", name];
    let more = ["--version", version, "--body", BODY];
    let made = Python::new(env).ask("tiny_wheel.py", &[&flags[..], &more].concat());
    let digest = made["sha256"].as_str().unwrap();
    let name = name.replace('_', "-");
    format!("{name}=={version} --hash=sha256:{digest}\n")
}

fn uv() -> String {
    let uv = servers_folder().join("function/bin/uv");
    uv.to_str().unwrap().to_owned()
}

/// Runs uv without a network in a folder.
#[track_caller]
fn run_uv(folder: &Path, words: &[&str]) {
    let output = Command::new(uv())
        .args(words)
        .args(["--offline", "--no-cache", "--quiet"])
        .arg("--python")
        .arg(python())
        .env_clear()
        .envs(inherited())
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output));
}

/// A package index with the wheel, from which a lock has its hash; its address.
fn index_of(scene: &Scene, pin: &str) -> String {
    let digest = pin.trim().rsplit(':').next().unwrap();
    let file = "tiny_greeter-1.0-py3-none-any.whl";
    let page = format!(
        "<!DOCTYPE html><html><body><a href=\"../../wheels/{file}#sha256={digest}\">{file}</a></body></html>"
    );
    std::fs::create_dir_all(scene.path("simple/tiny-greeter")).unwrap();
    scene.write("simple/tiny-greeter/index.html", &page);
    format!("file://{}", scene.path("simple").display())
}

fn greetings(rows: &[Value]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row["greeting"] == "from the wheel")
}

#[test]
fn a_function_has_the_wheels_that_its_requirements_pin_and_no_others() {
    let function =
        "file = \"transform.py\"\nrequirements = \"requirements.txt\"\nwheels = \"wheels/\"";
    let scene = Scene::new(TRANSFORM, function, "");
    let folder = scene.path("wheels");
    let pin = wheel_in(folder.to_str().unwrap(), vec![]);
    scene.write("requirements.txt", &pin);
    let ran = scene.run(&[]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(greetings(&scene.rows()), "{:?}", scene.rows());

    // Another digest is another wheel, whatever its name.
    let refused = [
        (
            pin.replace("sha256:", "sha256:00").replace("00", "11"),
            "hash",
        ),
        ("tiny-greeter==1.0\n".to_owned(), "has no hash"),
        ("tiny-greeter\n".to_owned(), "not a package pinned"),
        (
            format!("{pin}absent==2.0 --hash=sha256:{}\n", "a".repeat(64)),
            "absent",
        ),
    ];
    for (requirements, expected) in refused {
        scene.write("requirements.txt", &requirements);
        let ran = scene.run(&["--state", "other-state"]);
        assert_eq!(ran.status.code(), Some(2), "{requirements}: {}", text(&ran));
        let printed = text(&ran).to_lowercase();
        assert!(printed.contains(expected), "{requirements}: {printed}");
    }
}

#[test]
fn a_wheel_is_installed_though_the_workers_python_has_a_package_of_its_version() {
    let function =
        "file = \"transform.py\"\nrequirements = \"requirements.txt\"\nwheels = \"wheels/\"";
    let transform = TRANSFORM.replace("tiny_greeter", "iniconfig");
    let scene = Scene::new(&transform, function, "");
    let version = Command::new(python())
        .args([
            "-c",
            "import importlib.metadata as m; print(m.version('iniconfig'))",
        ])
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let folder = scene.path("wheels");
    let pin = wheel_of(
        "iniconfig",
        version.trim(),
        folder.to_str().unwrap(),
        vec![],
    );
    scene.write("requirements.txt", &pin);
    let ran = scene.run(&[]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(greetings(&scene.rows()), "{:?}", scene.rows());
}

#[test]
fn a_lock_of_uv_and_a_header_with_its_lock_come_to_the_same_wheels() {
    let scene = Scene::new(TRANSFORM, "file = \"transform.py\"", "");
    let folder = scene.path("wheels");
    let pin = wheel_in(folder.to_str().unwrap(), vec![]);
    let index = index_of(&scene, &pin);
    let project = "[project]\nname = \"own\"\nversion = \"1\"\nrequires-python = \">=3.10\"\n\
                   dependencies = [\"tiny-greeter\"]\n";
    scene.write("pyproject.toml", project);
    run_uv(&scene.path(""), &["lock", "--default-index", &index]);
    let header = "# /// script\n# requires-python = \">=3.10\"\n# dependencies = [\"tiny-greeter\"]\n# ///\n";
    scene.write("script.py", &format!("{header}{TRANSFORM}"));
    let lock = ["lock", "--script", "script.py", "--default-index", &index];
    run_uv(&scene.path(""), &lock);
    for (file, requirements) in [
        ("transform.py", "uv.lock"),
        ("transform.py", "pyproject.toml"),
        ("script.py", "script.py"),
    ] {
        let keys =
            format!("file = {file:?}\nrequirements = {requirements:?}\nwheels = \"wheels/\"");
        scene.write("job.toml", &Scene::job(&keys, ""));
        for folder in ["out", "checkpoint", ".streamctl-own"] {
            let _not_there = std::fs::remove_dir_all(scene.path(folder));
        }
        let ran = scene.run_with(&[("STREAMCTL_FUNCTION_UV", &uv())]);
        assert!(ran.status.success(), "{requirements}: {}", text(&ran));
        assert!(
            greetings(&scene.rows()),
            "{requirements}: {:?}",
            scene.rows()
        );
        let ran = scene.run_with(&[("STREAMCTL_FUNCTION_UV", "/no/such/uv")]);
        // The state is there: only a changed job is looked at again.
        assert!(ran.status.success(), "{}", text(&ran));
    }
    std::fs::remove_dir_all(scene.path(".streamctl-own")).unwrap();
    std::fs::remove_dir_all(scene.path("checkpoint")).unwrap();
    let ran = scene.run_with(&[("STREAMCTL_FUNCTION_UV", "/no/such/uv")]);
    assert_eq!(ran.status.code(), Some(2), "{}", text(&ran));
    assert!(text(&ran).contains("--function-uv"), "{}", text(&ran));
    // What the header names would be missing without the key.
    scene.write("job.toml", &Scene::job("file = \"script.py\"", ""));
    let ran = scene.run(&[]);
    assert_eq!(ran.status.code(), Some(2), "{}", text(&ran));
    assert!(
        text(&ran).contains("uv lock --script script.py"),
        "{}",
        text(&ran)
    );
}

#[test]
fn each_worker_makes_the_environment_of_wheels_in_s3_once() {
    let _alone = one_system_at_a_time();
    let mut scene = model_job::Scene::new();
    let python = python();
    let flags = ["--functions", "--function-python", python.to_str().unwrap()];
    scene.cluster.add_worker_with("worker-2", &flags);
    let pin = wheel_in("s3://workshop/wheels/", scene.servers.env());
    scene.file("requirements.txt", &pin);
    let transform = "import tiny_greeter\nassert tiny_greeter.greeting()\n\
                     def process_batch(frame, batch_id):\n    return frame\n";
    scene.file("transform.py", transform);
    let function = "[function]\nfile = \"transform.py\"\nframe = \"pyarrow\"\n\
                    requirements = \"requirements.txt\"\nwheels = \"s3://workshop/wheels/\"\n";
    let file = scene.file(
        "job.toml",
        &format!("{}\n{function}", model_job::job_file()),
    );
    let mut writer = scene.writer("live", 20_000, 0);
    scene.cluster.cli_ok(&["submit", &file]);
    scene.goes_on("the submit");
    assert!(writer.terminate(model_job::STEP).success());
    scene.everything_is_there_once();
    let log = scene.servers.folder().join("worker-2.log");
    let log = std::fs::read_to_string(log).unwrap();
    let made = log.matches("making the environment of a function").count();
    assert_eq!(made, 1, "{log}");
}
