//! The packed code of a function: files by name, and what identifies them.
//!
//! Owns: which names and sizes are allowed, the digest. Does not own: collecting the files (the
//! CLI), storing them (`engine`), running them (the worker).
//! Rule: the digest is of every name and every byte, so the same digest is the same code everywhere.

use crate::digest::sha256_hex;
use crate::v1;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most files of a function.
pub const CODE_FILES_MAX: usize = 500;
/// Most bytes of all files of a function: they travel in one message. Data belongs into lookups.
pub const CODE_BYTES_MAX: usize = 2 << 20;
/// Longest name of a file.
const CODE_NAME_BYTES_MAX: usize = 255;
/// The object that lists the files of a stored function.
pub const CODE_INDEX: &str = "index.json";

/// The type of the Flight action of a worker that calls a function without rows.
pub const LEARN_ACTION: &str = "learn-function";
/// The type of the Flight action of a worker that calls `on_published`.
pub const PUBLISHED_ACTION: &str = "published-epoch";

/// SHA-256 of a function's index, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CodeDigest(String);

impl TryFrom<String> for CodeDigest {
    type Error = CodeError;

    fn try_from(text: String) -> Result<Self, CodeError> {
        text.parse()
    }
}

impl fmt::Display for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for CodeDigest {
    type Err = CodeError;

    /// It becomes part of a path: only what a digest can hold is taken.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        match text.len() == 64 && text.chars().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(CodeError::Digest(text.chars().take(80).collect())),
        }
    }
}

/// A file of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeFile {
    /// From the root of the code, with slashes.
    pub name: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
}

/// The files of a stored function, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeIndex {
    pub files: Vec<CodeFile>,
}

/// Why files are not the code of a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("{0:?} is not the digest of a function's code")]
    Digest(String),
    #[error("{0:?} is not the name of a file of a function")]
    Name(String),
    #[error("the function has {0} files, at most {CODE_FILES_MAX} are possible")]
    Files(usize),
    #[error("the function's files have {0} bytes, at most {CODE_BYTES_MAX} are possible")]
    Bytes(usize),
    #[error("the function's code does not hold {0}")]
    Missing(String),
    /// It was changed where it is stored.
    #[error("{name} of the function's code was changed since it was stored")]
    Changed { name: String },
    #[error("the list of the function's files cannot be read: {0}")]
    Index(String),
}

/// The code of a function: the bytes of each file, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionCode {
    files: BTreeMap<String, Vec<u8>>,
}

impl FunctionCode {
    /// # Errors
    /// A name that leaves the code's folder, too many files or bytes.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, CodeError> {
        if files.len() > CODE_FILES_MAX {
            return Err(CodeError::Files(files.len()));
        }
        if let Some(name) = files.keys().find(|name| !is_name(name)) {
            return Err(CodeError::Name(name.clone()));
        }
        let bytes = files.values().map(Vec::len).sum();
        if bytes > CODE_BYTES_MAX {
            return Err(CodeError::Bytes(bytes));
        }
        Ok(Self { files })
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The stored list of the files, and its digest.
    pub fn index(&self) -> (Vec<u8>, CodeDigest) {
        let file = |(name, bytes): (&String, &Vec<u8>)| CodeFile {
            name: name.clone(),
            sha256: sha256_hex(bytes),
            bytes: bytes.len() as u64,
        };
        let files = self.files.iter().map(file).collect();
        let bytes = serde_json::to_vec(&CodeIndex { files }).expect("an index has only text keys");
        let digest = CodeDigest(sha256_hex(&bytes));
        (bytes, digest)
    }

    pub fn digest(&self) -> CodeDigest {
        self.index().1
    }
}

impl From<&FunctionCode> for Vec<v1::FunctionFile> {
    fn from(code: &FunctionCode) -> Self {
        let file = |(name, content): (&str, &[u8])| v1::FunctionFile {
            name: name.to_owned(),
            content: content.to_vec(),
        };
        code.files().map(file).collect()
    }
}

impl TryFrom<Vec<v1::FunctionFile>> for FunctionCode {
    type Error = CodeError;

    fn try_from(files: Vec<v1::FunctionFile>) -> Result<Self, CodeError> {
        Self::new(
            files
                .into_iter()
                .map(|file| (file.name, file.content))
                .collect(),
        )
    }
}

impl CodeIndex {
    /// Parses a stored index; it must be that of `digest`.
    ///
    /// # Errors
    /// Other bytes, or names and sizes that are not allowed.
    pub fn decode(bytes: &[u8], digest: &CodeDigest) -> Result<Self, CodeError> {
        if sha256_hex(bytes) != digest.0 {
            return Err(CodeError::Changed {
                name: CODE_INDEX.to_owned(),
            });
        }
        let index: Self =
            serde_json::from_slice(bytes).map_err(|error| CodeError::Index(error.to_string()))?;
        if index.files.len() > CODE_FILES_MAX {
            return Err(CodeError::Files(index.files.len()));
        }
        if let Some(file) = index.files.iter().find(|file| !is_name(&file.name)) {
            return Err(CodeError::Name(file.name.clone()));
        }
        Ok(index)
    }
}

impl CodeFile {
    /// # Errors
    /// These are not the bytes that were stored.
    pub fn check(&self, bytes: &[u8]) -> Result<(), CodeError> {
        if sha256_hex(bytes) == self.sha256 {
            return Ok(());
        }
        Err(CodeError::Changed {
            name: self.name.clone(),
        })
    }
}

/// Whether a file of this name lies inside the folder of the code, on every system.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| !c.is_control() && !matches!(c, '\\' | ':'))
    };
    name.len() <= CODE_NAME_BYTES_MAX && name.split('/').all(is_part) && name != CODE_INDEX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(files: &[(&str, &str)]) -> Result<FunctionCode, CodeError> {
        let file = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
        FunctionCode::new(files.iter().map(file).collect())
    }

    #[test]
    fn the_digest_depends_on_every_name_and_byte() {
        let digest = |files: &[(&str, &str)]| code(files).unwrap().digest();
        let first = digest(&[("a.py", "1"), ("b/c.py", "2")]);
        assert_eq!(digest(&[("b/c.py", "2"), ("a.py", "1")]), first);
        for other in [
            vec![("a.py", "1")],
            vec![("a.py", "1"), ("b/c.py", "3")],
            vec![("a.py", "1"), ("b/d.py", "2")],
            vec![("a.py", "12"), ("b/c.py", "")],
        ] {
            assert_ne!(digest(&other), first, "{other:?}");
        }
        assert_eq!(first.to_string().parse::<CodeDigest>().unwrap(), first);
    }

    #[test]
    fn names_that_leave_the_folder_and_too_much_code_are_refused() {
        for name in [
            "/etc/passwd",
            "../a.py",
            "a/../b.py",
            "a//b",
            "",
            ".hidden",
            "a/.git/x",
            "a\\b",
            "C:x",
            "a\nb",
            "index.json",
        ] {
            assert_eq!(code(&[(name, "")]), Err(CodeError::Name(name.into())));
        }
        let large = "x".repeat(CODE_BYTES_MAX + 1);
        assert!(matches!(
            code(&[("a.py", &large)]),
            Err(CodeError::Bytes(_))
        ));
        let many = (0..=CODE_FILES_MAX).map(|n| (format!("{n}.py"), vec![]));
        assert!(matches!(
            FunctionCode::new(many.collect()),
            Err(CodeError::Files(_))
        ));
    }

    #[test]
    fn a_stored_index_is_that_of_its_digest_or_an_error() {
        let code = code(&[("a.py", "1")]).unwrap();
        let (mut bytes, digest) = code.index();
        let index = CodeIndex::decode(&bytes, &digest).unwrap();
        assert_eq!(index.files[0].check(b"1"), Ok(()));
        assert!(index.files[0].check(b"2").is_err());
        bytes[3] ^= 1;
        assert!(CodeIndex::decode(&bytes, &digest).is_err());
    }

    #[test]
    fn a_digest_is_only_hexadecimal_text() {
        for text in ["", "../../x", &"g".repeat(64), &"A".repeat(64)] {
            assert!(text.parse::<CodeDigest>().is_err());
        }
    }
}
