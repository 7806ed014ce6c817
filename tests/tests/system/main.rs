//! The whole system as its users run it: three programs, real servers, readers that are not ours.
//!
//! Owns: one file per promise. Does not own: how processes and servers start (`streamctl_tests`).
//! Rule: each test begins with nothing and leaves nothing; what it waits for it names.

#![allow(missing_docs)]

mod bad_input;
mod cases;
mod changed_job;
mod chaos;
mod conformance;
mod contracts;
mod corpus;
mod dashboard;
mod data_catalog;
mod deploy;
mod docs;
mod etcd;
mod events;
mod fan_out;
mod files_as_found;
mod flight;
mod formats;
mod from_glue;
mod function_glue;
mod function_kinds;
mod function_packages;
mod functions;
mod hangs;
mod hive_files;
mod iceberg;
mod iceberg_small_files;
mod image;
mod inside;
mod local_mode;
mod looks;
mod memory;
mod metrics;
mod migration;
mod model_job;
mod neighbours;
mod notebook;
mod python;
mod quick_start;
mod refused;
mod restored;
mod retention;
mod roles;
mod scaling;
mod security;
mod simulation;
mod strangers;
mod structure;
mod support;
mod tables;
mod top;
mod traces;
mod values;
mod verify;
