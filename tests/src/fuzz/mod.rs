//! Properties that must hold for any external bytes, one function per kind; a panic is a finding.
//!
//! Owns: the bodies of the fuzz targets, and mutation without a fuzzer ([`mutate`]). Does not own:
//! the kept inputs (`tests/fuzz/corpus/`), running a fuzzer (`make fuzz`), the replay in every test
//! run (`tests/tests/system/corpus.rs`).
//! Rule: deterministic, without I/O; if there is a second implementation (another parser, the other
//! direction), a body compares with it: "does not panic" alone finds little.

pub mod answer;
pub mod answer_cbor;
pub mod clients;
pub mod control;
pub mod job_file;
pub mod json;
pub mod kpl;
pub mod lookup;
pub mod manifest;
pub mod mutate;
pub mod nested;
pub mod position;
pub mod workers;

/// A fuzz target: its name, which is its folder's name in the corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 12] = [
    ("json", json::json),
    ("nested", nested::nested),
    ("answer", answer::answer),
    ("answer_cbor", answer_cbor::answer_cbor),
    ("job_file", job_file::job_file),
    ("manifest", manifest::manifest),
    ("kpl", kpl::kpl),
    ("lookup", lookup::lookup),
    ("position", position::position),
    ("workers", workers::workers),
    ("control", control::control),
    ("clients", clients::clients),
];
