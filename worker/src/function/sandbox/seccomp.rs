//! Seccomp: the system calls that a function may use.
//!
//! Owns: the list. Rule: what is not on it fails with EPERM. So a call that a later kernel adds is
//! refused until it is put here, and what is here cannot reach another process, another network or
//! the rights of a file that belongs to others.
//!
//! One process: `clone` makes threads only, so that there is nothing to count, to share memory with
//! or to outlive the function. `execve` is on the list, because this process becomes Python with it;
//! a program started by it would have the same restrictions.

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Calls without a condition, that all architectures have.
const ALLOWED: &[c_long] = &[
    // Files: Landlock and the file tree decide which.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_get_mempolicy,
    libc::SYS_membarrier,
    // Threads and this process.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // On sockets that are there already: the connection to the worker, pairs of its own.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

/// Older forms of the same calls.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Calls for which a C library has a replacement if they are not there: they fail with ENOSYS, in a
/// filter of their own. `clone3` passes its flags in memory, where no filter can read them.
const NOT_THERE: &[c_long] = &[libc::SYS_clone3, libc::SYS_futex_waitv];

/// Calls whose first argument must be this process.
const ON_ITSELF: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
];
/// Those for which 0 is this process, too.
const ZERO_IS_ITSELF: &[c_long] = &[libc::SYS_prlimit64, libc::SYS_sched_setaffinity];

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

fn rules(network: bool) -> Built<Rules> {
    let itself = i64::from(std::process::id());
    let mut rules: Rules = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .chain(NOT_THERE)
        .map(|call| (*call, vec![]))
        .collect();
    for call in ON_ITSELF {
        let zero = ZERO_IS_ITSELF.contains(call).then_some(0);
        rules.insert(*call, one_of(0, zero.into_iter().chain([itself]))?);
    }
    rules.insert(
        libc::SYS_fcntl,
        one_of(1, FCNTL.iter().map(|n| i64::from(*n)))?,
    );
    rules.insert(libc::SYS_ioctl, one_of(1, IOCTL.iter().map(|n| *n as i64))?);
    rules.insert(
        libc::SYS_prctl,
        one_of(0, PRCTL.iter().map(|n| i64::from(*n)))?,
    );
    let thread = libc::CLONE_THREAD as u64;
    let is_thread = when(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]);
    // Streams alone: a datagram socket sends to any address.
    let of_kind = |kind: i32| when(1, SeccompCmpOp::MaskedEq(SOCKET_KIND), kind as u64);
    let local = equal(0, i64::from(libc::AF_UNIX))?;
    let pair = SeccompRule::new(vec![local, of_kind(libc::SOCK_STREAM)?])?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    if network {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                let family = equal(0, i64::from(family))?;
                sockets.push(SeccompRule::new(vec![family, of_kind(kind)?])?);
            }
        }
        rules.insert(libc::SYS_socket, sockets);
        rules.insert(libc::SYS_connect, vec![]);
        rules.insert(libc::SYS_bind, vec![]);
    }
    Ok(rules)
}

fn program(network: bool) -> Built<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(
        rules(network)?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    )?
    .try_into()
}

/// Refuses [`NOT_THERE`].
fn not_there() -> Built<BpfProgram> {
    SeccompFilter::new(
        NOT_THERE.iter().map(|call| (*call, vec![])).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?
    .try_into()
}

/// Restricts this process.
pub fn restrict(network: bool) -> Result<String, String> {
    let built = |program: Built<BpfProgram>| program.map_err(|error| error.to_string());
    // A call must pass both filters. The second one forbids to put on a third.
    for program in [built(not_there())?, built(program(network))?] {
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

    #[test]
    fn no_call_is_listed_twice_or_with_and_without_a_condition() {
        let rules = rules(true).unwrap();
        let unconditional = rules.values().filter(|rules| rules.is_empty()).count();
        // With `connect` and `bind`.
        let listed = ALLOWED.len() + ALLOWED_HERE.len() + NOT_THERE.len();
        assert_eq!(unconditional, listed + 2);
    }

    #[test]
    fn what_leads_out_is_not_on_the_list() {
        let rules = rules(false).unwrap();
        let out = [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_send_signal,
            libc::SYS_tkill,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_memfd_create,
            libc::SYS_open_by_handle_at,
            libc::SYS_fchmod,
            libc::SYS_fchownat,
            libc::SYS_setxattr,
            libc::SYS_utimensat,
            libc::SYS_truncate,
        ];
        for call in out {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
