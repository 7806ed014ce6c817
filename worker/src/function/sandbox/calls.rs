//! The numbers of system calls, by architecture.
//!
//! Owns: the table. Does not own: which calls are allowed ([`super::seccomp`]).
//! Rule: a call is named once, with its number on each architecture that functions run on. So the
//! list for one machine is checked on every other.

/// An architecture that functions run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// That of this process.
    ///
    /// # Errors
    /// There is no table for it.
    pub fn here() -> Result<Self, String> {
        Self::named(std::env::consts::ARCH)
    }

    fn named(name: &str) -> Result<Self, String> {
        match name {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(format!(
                "system calls are known for x86_64 and aarch64, and this machine is {other}"
            )),
        }
    }
}

/// A call and its numbers; `None`: the architecture does not have it.
struct Call {
    name: &'static str,
    x86_64: Option<i64>,
    aarch64: Option<i64>,
}

/// The number of a call; `None`: the architecture does not have it.
///
/// # Errors
/// The table does not have it.
pub fn number(name: &str, arch: Arch) -> Result<Option<i64>, String> {
    let found = CALLS.iter().find(|call| call.name == name);
    let call = found.ok_or_else(|| format!("the system call {name} is in no table"))?;
    Ok(match arch {
        Arch::X86_64 => call.x86_64,
        Arch::Aarch64 => call.aarch64,
    })
}

macro_rules! numbered {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

/// Name, number on x86_64, number on aarch64.
macro_rules! calls {
    ($($name:ident $x86_64:tt $aarch64:tt;)*) => {
        &[$(Call {
            name: stringify!($name),
            x86_64: numbered!($x86_64),
            aarch64: numbered!($aarch64),
        }),*]
    };
}

const CALLS: &[Call] = calls! {
    access 21 -;
    alarm 37 -;
    arch_prctl 158 -;
    bind 49 200;
    bpf 321 280;
    brk 12 214;
    capget 125 90;
    chdir 80 49;
    clock_getres 229 114;
    clock_gettime 228 113;
    clock_nanosleep 230 115;
    clone 56 220;
    clone3 435 435;
    close 3 57;
    close_range 436 436;
    connect 42 203;
    copy_file_range 326 285;
    dup 32 23;
    dup2 33 -;
    dup3 292 24;
    epoll_create 213 -;
    epoll_create1 291 20;
    epoll_ctl 233 21;
    epoll_pwait 281 22;
    epoll_pwait2 441 441;
    epoll_wait 232 -;
    eventfd 284 -;
    eventfd2 290 19;
    execve 59 221;
    exit 60 93;
    exit_group 231 94;
    faccessat 269 48;
    faccessat2 439 439;
    fadvise64 221 223;
    fallocate 285 47;
    fchdir 81 50;
    fchmod 91 52;
    fchownat 260 54;
    fcntl 72 25;
    fdatasync 75 83;
    flock 73 32;
    fstat 5 80;
    fstatfs 138 44;
    fsync 74 82;
    ftruncate 77 46;
    futex 202 98;
    futex_waitv 449 449;
    get_mempolicy 239 236;
    get_robust_list 274 100;
    getcpu 309 168;
    getcwd 79 17;
    getdents 78 -;
    getdents64 217 61;
    getegid 108 177;
    geteuid 107 175;
    getgid 104 176;
    getgroups 115 158;
    getitimer 36 102;
    getpeername 52 205;
    getpgid 121 155;
    getpgrp 111 -;
    getpid 39 172;
    getppid 110 173;
    getpriority 140 141;
    getrandom 318 278;
    getresgid 120 150;
    getresuid 118 148;
    getrusage 98 165;
    getsid 124 156;
    getsockname 51 204;
    getsockopt 55 209;
    gettid 186 178;
    gettimeofday 96 169;
    getuid 102 174;
    io_uring_setup 425 425;
    ioctl 16 29;
    keyctl 250 219;
    kill 62 129;
    link 86 -;
    linkat 265 37;
    lseek 8 62;
    lstat 6 -;
    madvise 28 233;
    membarrier 324 283;
    memfd_create 319 279;
    mincore 27 232;
    mkdir 83 -;
    mkdirat 258 34;
    mlock 149 228;
    mmap 9 222;
    mount 165 40;
    mprotect 10 226;
    mremap 25 216;
    msync 26 227;
    munlock 150 229;
    munmap 11 215;
    nanosleep 35 101;
    newfstatat 262 79;
    open 2 -;
    open_by_handle_at 304 265;
    openat 257 56;
    openat2 437 437;
    pause 34 -;
    perf_event_open 298 241;
    pidfd_getfd 438 438;
    pidfd_open 434 434;
    pidfd_send_signal 424 424;
    pipe 22 -;
    pipe2 293 59;
    poll 7 -;
    ppoll 271 73;
    prctl 157 167;
    pread64 17 67;
    preadv 295 69;
    preadv2 327 286;
    prlimit64 302 261;
    process_vm_readv 310 270;
    process_vm_writev 311 271;
    pselect6 270 72;
    ptrace 101 117;
    pwrite64 18 68;
    pwritev 296 70;
    pwritev2 328 287;
    read 0 63;
    readlink 89 -;
    readlinkat 267 78;
    readv 19 65;
    recvfrom 45 207;
    recvmmsg 299 243;
    recvmsg 47 212;
    rename 82 -;
    renameat 264 38;
    renameat2 316 276;
    restart_syscall 219 128;
    rmdir 84 -;
    rseq 334 293;
    rt_sigaction 13 134;
    rt_sigpending 127 136;
    rt_sigprocmask 14 135;
    rt_sigqueueinfo 129 138;
    rt_sigreturn 15 139;
    rt_sigsuspend 130 133;
    rt_sigtimedwait 128 137;
    rt_tgsigqueueinfo 297 240;
    sched_get_priority_max 146 125;
    sched_get_priority_min 147 126;
    sched_getaffinity 204 123;
    sched_getparam 143 121;
    sched_getscheduler 145 120;
    sched_setaffinity 203 122;
    sched_yield 24 124;
    select 23 -;
    sendfile 40 71;
    sendmmsg 307 269;
    sendmsg 46 211;
    sendto 44 206;
    set_robust_list 273 99;
    set_tid_address 218 96;
    setitimer 38 103;
    setns 308 268;
    setsockopt 54 208;
    setxattr 188 5;
    shutdown 48 210;
    sigaltstack 131 132;
    signalfd4 289 74;
    socket 41 198;
    socketpair 53 199;
    splice 275 76;
    stat 4 -;
    statfs 137 43;
    statx 332 291;
    symlink 88 -;
    symlinkat 266 36;
    sync_file_range 277 84;
    sysinfo 99 179;
    tee 276 77;
    tgkill 234 131;
    time 201 -;
    timer_create 222 107;
    timer_delete 226 111;
    timer_getoverrun 225 109;
    timer_gettime 224 108;
    timer_settime 223 110;
    timerfd_create 283 85;
    timerfd_gettime 287 87;
    timerfd_settime 286 86;
    times 100 153;
    tkill 200 130;
    truncate 76 45;
    umask 95 166;
    uname 63 160;
    unlink 87 -;
    unlinkat 263 35;
    unshare 272 97;
    userfaultfd 323 282;
    utimensat 280 88;
    wait4 61 260;
    waitid 247 95;
    write 1 64;
    writev 20 66;
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What the C library of this machine calls them.
    macro_rules! known {
        ($($name:ident)*) => {
            [$((stringify!($name).trim_start_matches("SYS_"), libc::$name)),*]
        };
    }

    #[test]
    fn the_numbers_of_this_machine_are_those_of_its_c_library() {
        let known = known! {
            SYS_bind SYS_bpf SYS_brk SYS_capget SYS_chdir SYS_clock_getres SYS_clock_gettime
            SYS_clock_nanosleep SYS_clone SYS_clone3 SYS_close SYS_close_range SYS_connect
            SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait
            SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_exit SYS_exit_group SYS_faccessat
            SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod SYS_fchownat
            SYS_fcntl SYS_fdatasync SYS_flock SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate
            SYS_futex SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd
            SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer
            SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
            SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
            SYS_gettid SYS_gettimeofday SYS_getuid SYS_io_uring_setup SYS_ioctl SYS_keyctl
            SYS_kill SYS_linkat SYS_lseek SYS_madvise SYS_membarrier SYS_memfd_create SYS_mincore
            SYS_mkdirat SYS_mlock SYS_mmap SYS_mount SYS_mprotect SYS_mremap SYS_msync SYS_munlock
            SYS_munmap SYS_nanosleep SYS_newfstatat SYS_open_by_handle_at SYS_openat SYS_openat2
            SYS_perf_event_open SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2
            SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64
            SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64
            SYS_pwritev SYS_pwritev2 SYS_read SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg
            SYS_recvmsg SYS_renameat2 SYS_restart_syscall SYS_rseq SYS_rt_sigaction
            SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
            SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
            SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getparam
            SYS_sched_getscheduler SYS_sched_setaffinity SYS_sched_yield SYS_sendfile SYS_sendmmsg
            SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setitimer SYS_setns
            SYS_setsockopt SYS_setxattr SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socket
            SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sysinfo SYS_tee
            SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime
            SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times
            SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_unshare SYS_userfaultfd
            SYS_utimensat SYS_wait4 SYS_waitid SYS_write SYS_writev
        };
        let here = Arch::here().unwrap();
        for (name, expected) in known {
            assert_eq!(number(name, here), Ok(Some(expected)), "{name}");
        }
        // All others are old forms that not every architecture has, or missing in the library.
        assert!(known.len() + 26 >= CALLS.len());
    }

    #[test]
    fn no_name_and_no_number_is_there_twice() {
        let names: BTreeSet<_> = CALLS.iter().map(|call| call.name).collect();
        assert_eq!(names.len(), CALLS.len());
        for numbers in [|call: &Call| call.x86_64, |call: &Call| call.aarch64] {
            let all: Vec<i64> = CALLS.iter().filter_map(numbers).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }

    #[test]
    fn a_machine_without_a_table_is_named() {
        let error = Arch::named("riscv64").unwrap_err();
        assert!(error.contains("this machine is riscv64"), "{error}");
        assert_eq!(Arch::named("aarch64"), Ok(Arch::Aarch64));
    }
}
