//! Seccomp: the system calls that a function may use.
//!
//! Owns: the list, by name. Does not own: the numbers ([`super::calls`]). Rule: what is not on it fails with EPERM. So a call that a later kernel adds is
//! refused until it is put here, and what is here cannot reach another process, another network or
//! the rights of a file that belongs to others.
//!
//! One process: `clone` makes threads only, so that there is nothing to count, to share memory with
//! or to outlive the function. `execve` is on the list, because this process becomes Python with it;
//! a program started by it would have the same restrictions.

use super::calls::{Arch, number};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Calls without a condition.
const ALLOWED: &[&str] = &[
    // Files: Landlock and the file tree decide which.
    "openat",
    "openat2",
    "close",
    "close_range",
    "read",
    "readv",
    "pread64",
    "preadv",
    "preadv2",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "lseek",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "faccessat",
    "faccessat2",
    "readlinkat",
    "getdents64",
    "getcwd",
    "chdir",
    "fchdir",
    "mkdirat",
    "unlinkat",
    "renameat",
    "renameat2",
    "linkat",
    "symlinkat",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "flock",
    "copy_file_range",
    "sendfile",
    "splice",
    "tee",
    "umask",
    "dup",
    "dup3",
    "pipe2",
    // Waiting.
    "ppoll",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd4",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "times",
    "getitimer",
    "setitimer",
    "timer_create",
    "timer_settime",
    "timer_gettime",
    "timer_getoverrun",
    "timer_delete",
    // Memory.
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "mincore",
    "msync",
    "mlock",
    "munlock",
    "get_mempolicy",
    "membarrier",
    // Threads and this process.
    "futex",
    "set_robust_list",
    "get_robust_list",
    "set_tid_address",
    "rseq",
    "gettid",
    "getpid",
    "getppid",
    "getpgid",
    "getsid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "capget",
    "getrusage",
    "getpriority",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "getcpu",
    "sysinfo",
    "uname",
    "getrandom",
    "wait4",
    "waitid",
    "execve",
    "exit",
    "exit_group",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sigaltstack",
    // On sockets that are there already: the connection to the worker, pairs of its own.
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
];

/// Older forms of the same calls, which newer architectures do not have.
const OLDER_FORMS: &[&str] = &[
    "open",
    "stat",
    "lstat",
    "access",
    "readlink",
    "getdents",
    "mkdir",
    "rmdir",
    "unlink",
    "rename",
    "link",
    "symlink",
    "dup2",
    "pipe",
    "poll",
    "select",
    "epoll_create",
    "epoll_wait",
    "eventfd",
    "alarm",
    "pause",
    "time",
    "getpgrp",
    "arch_prctl",
];

/// Calls for which a C library has a replacement if they are not there: they fail with ENOSYS, in a
/// filter of their own. `clone3` passes its flags in memory, where no filter can read them.
const NOT_THERE: &[&str] = &["clone3", "futex_waitv"];

/// Calls whose first argument must be this process.
const ON_ITSELF: &[&str] = &[
    "kill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "prlimit64",
    "sched_setaffinity",
];
/// Those for which 0 is this process, too.
const ZERO_IS_ITSELF: &[&str] = &["prlimit64", "sched_setaffinity"];

/// No owner of signals (`F_SETOWN`): it may be another process.
const FCNTL: &[i32] = &[
    libc::F_DUPFD,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETPIPE_SZ,
];
const IOCTL: &[u64] = &[
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
];
/// Names of threads and of memory; nothing that gives up a protection.
const PRCTL: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_SECCOMP,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_VMA,
    libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE,
];
/// Kinds of sockets, without their flags.
const SOCKET_KIND: u64 = 0xf;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn equal(argument: u8, value: i64) -> Built<SeccompCondition> {
    // The lower half, as the kernel reads an int.
    when(
        argument,
        SeccompCmpOp::Eq,
        value as u64 & u64::from(u32::MAX),
    )
}

fn one_of(argument: u8, values: impl IntoIterator<Item = i64>) -> Built<Vec<SeccompRule>> {
    let rule = |value| SeccompRule::new(vec![equal(argument, value)?]);
    values.into_iter().map(rule).collect()
}

/// Rules of calls by name.
type Named = BTreeMap<&'static str, Vec<SeccompRule>>;

fn rules(network: bool) -> Built<Named> {
    let itself = i64::from(std::process::id());
    let mut rules: Named = ALLOWED
        .iter()
        .chain(OLDER_FORMS)
        .chain(NOT_THERE)
        .map(|call| (*call, vec![]))
        .collect();
    for call in ON_ITSELF {
        let zero = ZERO_IS_ITSELF.contains(call).then_some(0);
        rules.insert(call, one_of(0, zero.into_iter().chain([itself]))?);
    }
    rules.insert("fcntl", one_of(1, FCNTL.iter().map(|n| i64::from(*n)))?);
    rules.insert("ioctl", one_of(1, IOCTL.iter().map(|n| *n as i64))?);
    rules.insert("prctl", one_of(0, PRCTL.iter().map(|n| i64::from(*n)))?);
    let thread = libc::CLONE_THREAD as u64;
    let is_thread = when(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert("clone", vec![SeccompRule::new(vec![is_thread])?]);
    // Streams alone: a datagram socket sends to any address.
    let of_kind = |kind: i32| when(1, SeccompCmpOp::MaskedEq(SOCKET_KIND), kind as u64);
    let local = equal(0, i64::from(libc::AF_UNIX))?;
    let pair = SeccompRule::new(vec![local, of_kind(libc::SOCK_STREAM)?])?;
    rules.insert("socketpair", vec![pair]);
    if network {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                let family = equal(0, i64::from(family))?;
                sockets.push(SeccompRule::new(vec![family, of_kind(kind)?])?);
            }
        }
        rules.insert("socket", sockets);
        rules.insert("connect", vec![]);
        rules.insert("bind", vec![]);
    }
    Ok(rules)
}

/// The same rules by the numbers of an architecture; calls that it does not have need none.
fn numbered(rules: Named, arch: Arch) -> Result<Rules, String> {
    let mut numbered = Rules::new();
    for (name, rules) in rules {
        if let Some(number) = number(name, arch)? {
            numbered.insert(number, rules);
        }
    }
    Ok(numbered)
}

fn target(arch: Arch) -> TargetArch {
    match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    }
}

fn program(network: bool, arch: Arch) -> Result<BpfProgram, String> {
    let rules = rules(network).map_err(|error| error.to_string())?;
    let otherwise = SeccompAction::Errno(libc::EPERM as u32);
    filter(
        numbered(rules, arch)?,
        otherwise,
        SeccompAction::Allow,
        arch,
    )
}

/// Refuses [`NOT_THERE`].
fn not_there(arch: Arch) -> Result<BpfProgram, String> {
    let rules = NOT_THERE.iter().map(|call| (*call, vec![])).collect();
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    filter(numbered(rules, arch)?, SeccompAction::Allow, refused, arch)
}

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
    arch: Arch,
) -> Result<BpfProgram, String> {
    let filter = SeccompFilter::new(rules, otherwise, matched, target(arch));
    let program: Built<BpfProgram> = filter.and_then(TryInto::try_into);
    program.map_err(|error| error.to_string())
}

/// Restricts this process.
pub fn restrict(network: bool) -> Result<String, String> {
    let arch = Arch::here()?;
    // A call must pass both filters. The second one forbids to put on a third.
    for program in [not_there(arch)?, program(network, arch)?] {
        seccompiler::apply_filter(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(match network {
        true => "one process, with network".into(),
        false => "one process, no network".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHITECTURES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    #[test]
    fn no_call_is_listed_twice_or_with_and_without_a_condition() {
        let rules = rules(true).unwrap();
        let unconditional = rules.values().filter(|rules| rules.is_empty()).count();
        // With `connect` and `bind`.
        let listed = ALLOWED.len() + OLDER_FORMS.len() + NOT_THERE.len();
        assert_eq!(unconditional, listed + 2);
    }

    #[test]
    fn each_architecture_has_every_call_but_the_older_forms() {
        for arch in ARCHITECTURES {
            let rules = rules(true).unwrap();
            for name in rules.keys().filter(|name| !OLDER_FORMS.contains(name)) {
                assert!(number(name, arch).unwrap().is_some(), "{name} on {arch:?}");
            }
            for network in [true, false] {
                assert!(!program(network, arch).unwrap().is_empty());
            }
            assert!(!not_there(arch).unwrap().is_empty());
        }
        for name in OLDER_FORMS {
            assert_eq!(number(name, Arch::Aarch64), Ok(None), "{name}");
            assert!(number(name, Arch::X86_64).unwrap().is_some(), "{name}");
        }
    }

    #[test]
    fn what_leads_out_is_not_on_the_list() {
        let named = rules(false).unwrap();
        let out = [
            "socket",
            "connect",
            "bind",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_open",
            "pidfd_getfd",
            "pidfd_send_signal",
            "tkill",
            "mount",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "keyctl",
            "io_uring_setup",
            "userfaultfd",
            "memfd_create",
            "open_by_handle_at",
            "fchmod",
            "fchownat",
            "setxattr",
            "utimensat",
            "truncate",
        ];
        for arch in ARCHITECTURES {
            let rules = numbered(named.clone(), arch).unwrap();
            for call in out {
                let number = number(call, arch)
                    .unwrap()
                    .expect("each architecture has it");
                assert!(
                    !named.contains_key(call) && !rules.contains_key(&number),
                    "{call}"
                );
            }
        }
    }
}
