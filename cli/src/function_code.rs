//! Packs the code of a job's function: the files that its job file names.
//!
//! Owns: which files belong to a function. Does not own: names and limits (`proto::function_code`).
//! Rule: only files below the folder of the job file are packed; links are not followed out of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use streamctl_proto::JobSpec;
use streamctl_proto::function_code::{CODE_BYTES_MAX, CODE_FILES_MAX, CodeError, FunctionCode};
use streamctl_proto::spec::{FunctionPlace, FunctionSpec, Problem, Problems, Requirements};

/// Deepest folder of a module.
const DEPTH_MAX: usize = 16;

/// The code of the job's function; `None` without one, or if a server runs it. `base_dir`: the
/// folder of the job file.
///
/// # Errors
/// A file is missing, or there is too much.
pub fn pack(spec: &JobSpec, base_dir: &Path) -> Result<Option<FunctionCode>, Problems> {
    let Some(function) = spec.function.as_ref().filter(|one| one.has_code()) else {
        return Ok(None);
    };
    let mut files = Files {
        base_dir,
        found: BTreeMap::new(),
        bytes: 0,
    };
    let packed = files.function(function);
    packed.map_err(|problem| Problems(vec![problem]))?;
    let code = FunctionCode::new(files.found)
        .map_err(|error| Problems(vec![problem("function", &error)]))?;
    Ok(Some(code))
}

fn problem(field: &str, error: &CodeError) -> Problem {
    let hint = match error {
        CodeError::Files(_) | CodeError::Bytes(_) => {
            Some("put data into a lookup, and packages into requirements".to_owned())
        }
        _ => None,
    };
    Problem::new(field, error.to_string(), hint)
}

struct Files<'a> {
    base_dir: &'a Path,
    found: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Files<'_> {
    fn function(&mut self, function: &FunctionSpec) -> Result<(), Problem> {
        match &function.place {
            FunctionPlace::File(path) => self.file("function.file", path)?,
            FunctionPlace::Module(name) => self.module(name)?,
            FunctionPlace::Url(_) => {}
        }
        match &function.requirements {
            Some(requirements) => self.requirements(requirements),
            None => self.check_header(function),
        }
    }

    fn requirements(&mut self, requirements: &Requirements) -> Result<(), Problem> {
        for path in requirements.files() {
            if self.found.contains_key(&path) {
                continue;
            }
            let packed = self.file("function.requirements", &path);
            packed.map_err(|problem| {
                let is_there = self.base_dir.join(&path).exists();
                let hint = format!("write it with: {}", requirements.lock_command());
                let hint = if is_there { problem.hint } else { Some(hint) };
                Problem { hint, ..problem }
            })?;
        }
        Ok(())
    }

    /// Packages that a file names in its header would not be there without `requirements`.
    fn check_header(&self, function: &FunctionSpec) -> Result<(), Problem> {
        let FunctionPlace::File(path) = &function.place else {
            return Ok(());
        };
        let text = self.found.get(path).map(Vec::as_slice).unwrap_or_default();
        if !names_packages(&String::from_utf8_lossy(text)) {
            return Ok(());
        }
        let message = format!("{path} names packages in its header, and they are not installed");
        let hint = format!(
            "uv lock --script {path}, then add requirements = {path:?}; or remove the header"
        );
        Err(Problem::new("function.file", message, Some(hint)))
    }

    /// A folder of the module's package, or the file of a module without one.
    fn module(&mut self, name: &str) -> Result<(), Problem> {
        let field = "function.module";
        let top = name.split('.').next().unwrap_or(name);
        let folder = self.base_dir.join(top);
        if !folder.is_dir() {
            if name == top && self.base_dir.join(format!("{top}.py")).is_file() {
                return self.file(field, &format!("{top}.py"));
            }
            let message = format!("there is no folder {}", folder.display());
            let hint = format!("the module {name} lies in a folder {top} beside the job file");
            return Err(Problem::new(field, message, Some(hint)));
        }
        self.folder(field, top, 0)?;
        let path = name.replace('.', "/");
        let has_module = [format!("{path}.py"), format!("{path}/__init__.py")]
            .iter()
            .any(|file| self.found.contains_key(file));
        if has_module {
            return Ok(());
        }
        let message = format!("there is no file {path}.py beside the job file");
        let hint = "name the module by its folders, with dots between them".to_owned();
        Err(Problem::new(field, message, Some(hint)))
    }

    /// All files below a folder, without hidden ones and those that Python makes.
    fn folder(&mut self, field: &str, name: &str, depth: usize) -> Result<(), Problem> {
        let path = self.base_dir.join(name);
        if depth > DEPTH_MAX {
            let message = format!("{} has too many folders inside each other", path.display());
            return Err(Problem::new(field, message, None));
        }
        let mut entries = Vec::new();
        let listed = std::fs::read_dir(&path).map_err(|error| unreadable(field, &path, &error))?;
        for entry in listed {
            let entry = entry.map_err(|error| unreadable(field, &path, &error))?;
            let kind = entry
                .file_type()
                .map_err(|error| unreadable(field, &entry.path(), &error))?;
            entries.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (entry, kind) in entries {
            let is_made = entry == "__pycache__" || entry.ends_with(".pyc");
            if entry.starts_with('.') || is_made {
                continue;
            }
            let inside = format!("{name}/{entry}");
            if kind.is_dir() {
                self.folder(field, &inside, depth + 1)?;
            } else if kind.is_file() {
                self.file(field, &inside)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, field: &str, name: &str) -> Result<(), Problem> {
        let path = self.base_dir.join(name);
        let size = std::fs::metadata(&path)
            .map_err(|error| unreadable(field, &path, &error))?
            .len();
        let too_much = usize::try_from(size).map_or(usize::MAX, |size| self.bytes + size);
        if too_much > CODE_BYTES_MAX {
            return Err(problem(field, &CodeError::Bytes(too_much)));
        }
        if self.found.len() == CODE_FILES_MAX {
            return Err(problem(field, &CodeError::Files(CODE_FILES_MAX + 1)));
        }
        let content = std::fs::read(&path).map_err(|error| unreadable(field, &path, &error))?;
        self.bytes += content.len();
        self.found.insert(name.to_owned(), content);
        Ok(())
    }
}

/// Whether a file has a header (PEP 723) with dependencies.
fn names_packages(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end);
    if !lines.any(|line| line == "# /// script") {
        return false;
    }
    let header = lines.take_while(|line| line.starts_with('#') && *line != "# ///");
    let header: Vec<&str> = header
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect();
    let joined = header.concat().replace(' ', "");
    let dependencies = joined.split_once("dependencies=[");
    dependencies.is_some_and(|(_, rest)| !rest.starts_with(']'))
}

fn unreadable(field: &str, path: &Path, error: &std::io::Error) -> Problem {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            let hint = "the path is taken from the folder of the job file".to_owned();
            Problem::new(field, format!("there is no file {path}"), Some(hint))
        }
        _ => Problem::new(field, format!("{path} cannot be read: {error}"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(function: &str) -> JobSpec {
        JobSpec::parse(&format!(
            "name = \"a\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"60s\"\n[function]\n{function}\n\
             [sink]\npath = \"/s\"\n[checkpoint]\nlocation = \"/c\"\n"
        ))
        .unwrap()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(code: Option<FunctionCode>) -> Vec<String> {
        let code = code.unwrap();
        code.files().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_file_is_packed_with_its_requirements_and_nothing_else() {
        let folder = folder(&[("t.py", "x"), ("r.txt", "y"), ("other.py", "z")]);
        let packed = pack(
            &spec("file = \"t.py\"\nrequirements = \"r.txt\""),
            folder.path(),
        );
        assert_eq!(names(packed.unwrap()), ["r.txt", "t.py"]);
        assert_eq!(pack(&spec("url = \"grpc://h:1\""), folder.path()), Ok(None));
    }

    #[test]
    fn a_lock_is_packed_with_what_it_locks() {
        let header = "# /// script\n# dependencies = [\n#   \"six\",\n# ]\n# ///\nx = 1\n";
        let folder = folder(&[
            ("t.py", header),
            ("t.py.lock", "l"),
            ("plain.py", "# /// script\n# dependencies = []\n# ///\n"),
            ("pyproject.toml", "p"),
        ]);
        let packed = |text: &str| pack(&spec(text), folder.path());
        let found = packed("file = \"t.py\"\nrequirements = \"t.py\"");
        assert_eq!(names(found.unwrap()), ["t.py", "t.py.lock"]);
        assert_eq!(names(packed("file = \"plain.py\"").unwrap()), ["plain.py"]);
        let refused = packed("file = \"t.py\"").unwrap_err().to_string();
        assert!(refused.contains("uv lock --script t.py"), "{refused}");
        let refused = packed("file = \"plain.py\"\nrequirements = \"uv.lock\"");
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("write it with: uv lock"), "{refused}");
        std::fs::write(folder.path().join("uv.lock"), "u").unwrap();
        let found = packed("file = \"plain.py\"\nrequirements = \"pyproject.toml\"");
        assert_eq!(
            names(found.unwrap()),
            ["plain.py", "pyproject.toml", "uv.lock"]
        );
    }

    #[test]
    fn a_module_is_packed_with_its_package() {
        let files = [
            ("sales/__init__.py", ""),
            ("sales/transform.py", "x"),
            ("sales/data/rates.csv", "1"),
            ("sales/__pycache__/transform.pyc", "c"),
            ("sales/.git/config", "g"),
            ("other.py", "z"),
        ];
        let folder = folder(&files);
        let packed = pack(&spec("module = \"sales.transform\""), folder.path());
        let expected = [
            "sales/__init__.py",
            "sales/data/rates.csv",
            "sales/transform.py",
        ];
        assert_eq!(names(packed.unwrap()), expected);
        let single = pack(&spec("module = \"other\""), folder.path());
        assert_eq!(names(single.unwrap()), ["other.py"]);
    }

    #[test]
    fn what_is_missing_or_too_large_is_named_with_its_key() {
        let large = "x".repeat(CODE_BYTES_MAX + 1);
        let folder = folder(&[("large.py", large.as_str()), ("sales/a.py", "")]);
        let refused = [
            ("file = \"no.py\"", "function.file: there is no file"),
            (
                "file = \"large.py\"",
                "function.file: the function's files have",
            ),
            ("module = \"none.x\"", "function.module: there is no folder"),
            (
                "module = \"sales.b\"",
                "function.module: there is no file sales/b.py",
            ),
        ];
        for (text, expected) in refused {
            let error = pack(&spec(text), folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
