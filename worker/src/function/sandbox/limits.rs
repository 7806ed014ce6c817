//! Limits of the process, and what it inherits.
//!
//! Rule: a limit that is set is also the hard one, so that it can only be lowered.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, nice, set_parent_process_death_signal, setrlimit,
    setsid, umask,
};
use rustix::thread::set_no_new_privs;

/// Address space beyond the memory limit: libraries, and what allocators reserve without using it.
const RESERVED_BYTES: u64 = 4 << 30;
/// Largest file. There may be more files; the sum is not limited.
const FILE_BYTES_MAX: u64 = 1 << 30;
const FILES_MAX: u64 = 1_024;
/// Threads of one function.
pub const THREADS_MAX: u64 = 256;

/// A third of the weight of a thread of the worker.
const NICE: i32 = 5;

/// The first descriptor that Python must not get.
const FIRST_CLOSED: i32 = 3;

/// `exec` will close every descriptor but the three, however it came here.
pub fn close_inherited() {
    close_fds::set_fds_cloexec(FIRST_CLOSED, &[]);
    // A session of its own has no terminal. A leader of a session already is in one.
    let _ = setsid();
    // For what is made here; the function gets a stricter one.
    umask(Mode::from_raw_mode(0o022));
}

/// No other user may read what the function writes.
pub fn write_for_itself() {
    umask(Mode::from_raw_mode(0o077));
}

/// If the machine runs out of memory, this process ends before the worker.
pub fn prefer_for_the_oom_killer() {
    // A convenience: without it the kernel chooses by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// The worker's threads and other jobs go first where there are fewer cores than work.
pub fn yield_to_the_worker() {
    // Conveniences: without them all have the same share.
    let _ = nice(NICE);
    // A session of its own may be scheduled as a group, whose members' niceness counts inside alone.
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
}

/// Sets the limits. `counts_threads`: the number of threads of this user is the function's alone.
pub fn set(memory_bytes: u64, counts_threads: bool) -> Result<(), String> {
    let mut limits = vec![
        (Resource::Core, 0),
        (Resource::Data, memory_bytes),
        (Resource::As, memory_bytes.saturating_add(RESERVED_BYTES)),
        (Resource::Fsize, FILE_BYTES_MAX),
        (Resource::Nofile, FILES_MAX),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, THREADS_MAX),
    ];
    if counts_threads {
        limits.push((Resource::Nproc, THREADS_MAX));
    }
    for (resource, limit) in limits {
        // What is set already can only be lowered.
        let limit = getrlimit(resource)
            .maximum
            .map_or(limit, |hard| hard.min(limit));
        let both = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        let failed = |errno: Errno| format!("{resource:?}: {errno}");
        setrlimit(resource, both).map_err(failed)?;
    }
    Ok(())
}

/// Ends this process when the worker ends.
pub fn die_with(worker: i32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::Kill)).map_err(|errno| errno.to_string())?;
    match getppid() {
        Some(parent) if parent.as_raw_nonzero().get() == worker => Ok(()),
        _ => Err("the worker ended".into()),
    }
}

/// No program that it starts has more rights than it has.
pub fn no_new_privileges() -> Result<(), String> {
    set_no_new_privs(true).map_err(|errno| errno.to_string())
}
