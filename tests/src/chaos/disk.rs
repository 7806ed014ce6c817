//! A disk that is full for a while, below a local run.
//!
//! Owns: the disk (its own tmpfs), filling it, the run on it. Does not own: the form of a local run
//! (`local_run`).
//! Rule: without the permission to mount, the fault is reported as skipped.

use super::fault::Fault;
use super::report::Row;
use super::run::Times;
use super::scene::verdict;
use crate::local_run::{Run, oracle_lines};
use crate::python::Python;
use crate::wait::until;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Room for the run's own files and little more.
const DISK: &str = "size=24m";
/// Low enough that the run outlives the fault: 8,000 records.
const RATE: u64 = 200;
/// Limit from the start to objects, and from the end of the fault to the next object.
const STEP: Duration = Duration::from_secs(60);
/// Limit until all records are made and published.
const REST: Duration = Duration::from_secs(240);
const FILL_BYTES: usize = 64 << 10;

/// Its own file system; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("the folder takes folders");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(folder)
            .output()
            .ok()?;
        mounted.status.success().then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("the disk takes files");
        for size in [FILL_BYTES, 1_024, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the file is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _stays = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills the disk during a run, empties it, and reads the output. State, checkpoint and output are
/// all on it.
pub fn run(folder: &Path, fault: &Fault) -> Row {
    let Some(disk) = Disk::mount(&folder.join("disk")) else {
        return Row::skipped(fault.name, "a disk of its own needs the right to mount");
    };
    let local = Run::new(&disk.0, "disk-full", RATE).logging_to(folder);
    let mut process = local.start();
    until("objects of a local run", STEP, || {
        (objects(&local) >= 3).then_some(())
    });
    disk.fill();
    let begin = Instant::now();
    std::thread::sleep(fault.lasts);
    let before = objects(&local);
    disk.empty();
    let healed = Instant::now();
    until("an object after the disk has room again", STEP, || {
        assert!(process.is_running(), "the run ended: {}", process.log());
        (objects(&local) > before).then_some(())
    });
    let again = Some(healed.elapsed());
    let still = begin.elapsed();
    assert!(process.wait(REST).success(), "{}", process.log());
    let oracle = folder.join("disk-full.jsonl");
    let lines = oracle_lines();
    std::fs::write(&oracle, &lines).expect("the folder takes files");
    let sink = local.place("out");
    let dead = local.place("dead");
    let flags = [
        "--sink",
        &sink,
        "--dead",
        &dead,
        "--oracle",
        oracle.to_str().expect("the path is text"),
    ];
    let mut words = Python::new(vec![]).ask("check_output.py", &flags);
    // Readers ignore staged files, and finished objects of a failed task are swept by age.
    let staged = |name: &Value| name.as_str().is_some_and(|name| name.ends_with(".staged"));
    if words["foreign"]
        .as_array()
        .is_some_and(|names| !names.is_empty() && names.iter().all(staged))
    {
        words["ok"] = Value::Bool(true);
    }
    let times = Times {
        noticed: None,
        again,
        healed: again,
        resumed: again,
        still,
    };
    Row::of(
        fault,
        &times,
        &verdict(lines.lines().count() as u64, words),
        (0, 0),
    )
}

/// Objects that are visible to a reader of the sink.
fn objects(run: &Run) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                if entry.path().is_dir() {
                    count(&entry.path())
                } else {
                    visible(&entry)
                }
            })
            .sum()
    }
    fn visible(entry: &std::fs::DirEntry) -> usize {
        usize::from(!entry.file_name().to_string_lossy().starts_with('.'))
    }
    count(Path::new(&run.place("out")))
}
