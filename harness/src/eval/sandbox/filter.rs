//! The system calls a program can make, by seccomp: a list, everything else gives `ENOSYS`.
//!
//! `ENOSYS` and not a signal, so that the C library falls back from newer calls (`clone3`, `openat2`) to those on the list and a refused
//! program gets an `OSError` as on a machine that lacks the feature. Not on the list, among others: fork, kill, sockets, ptrace, anything
//! that changes a file. seccompiler itself kills calls of a foreign architecture (32-bit, x32).

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Calls with any arguments, on every architecture.
const ALLOWED: &[libc::c_long] = &[
    // descriptors that are open, and files that landlock lets be opened
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev, // the token is written by it
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // memory
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // signals to itself by timers and faults; none can be sent
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_restart_syscall,
    // time
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // itself
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_execve, // the launcher's own; landlock names what may be executed
    libc::SYS_exit,
    libc::SYS_exit_group,
    // threads
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    // the pair of connected sockets with which an event loop wakes itself (made below); none of these takes an address
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
];

/// Older forms that aarch64 never had.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_arch_prctl,
];

/// Older forms that aarch64 never had.
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Namespaces that a new thread could ask for.
const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// What makes a clone a thread of the same process.
const THREAD: libc::c_int = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;

/// Confines this process, for good.
pub(super) fn install() -> Result<(), seccompiler::Error> {
    apply_filter(&program()?)
}

#[allow(clippy::unnecessary_cast, reason = "the type of an ioctl request differs between C libraries")]
fn program() -> Result<BpfProgram, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq};
    let is = SeccompCondition::new;
    let one_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        values.iter().map(|&value| SeccompRule::new(vec![is(argument, Dword, Eq, value)?])).collect()
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    let thread = is(0, Dword, MaskedEq((THREAD | NEW_NAMESPACES) as u32 as u64), THREAD as u64)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    let terminal_or_descriptor = [libc::TCGETS, libc::FIOCLEX, libc::FIONCLEX, libc::FIONREAD, libc::FIONBIO];
    rules.insert(libc::SYS_ioctl, one_of(1, &terminal_or_descriptor.map(|request| request as u64))?);
    let flags = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];
    rules.insert(libc::SYS_fcntl, one_of(1, &flags.map(|command| command as u64))?);
    // limits are read, not set: no new value
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is(2, Qword, Eq, 0)?])?]);
    // two ends in this process: a stream (the type without its flags), which cannot be sent to elsewhere
    let local = is(0, Dword, Eq, libc::AF_UNIX as u64)?;
    let stream = is(1, Dword, MaskedEq(0xf), libc::SOCK_STREAM as u64)?;
    rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(vec![local, stream])?]);
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![is(4, Qword, Eq, 0)?])?]); // no address
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow, architecture)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiles_for_this_machine_and_fits_the_kernels_limit() {
        let length = program().unwrap().len();
        // BPF_MAXINSNS of the kernel
        assert!((ALLOWED.len()..4096).contains(&length), "{length} instructions");
    }
}
