//! [`PythonSandbox`]: starts confined interpreters, listens to them, ends them in time.
//!
//! One run: a socket pair and two pipes, a thread reading each, and a main loop that waits for the next event or the deadline. The wall
//! clock starts when the interpreter reaches the program, so that a slow start on a busy machine is not the program's fault.

use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tasks::{Executor, Limits, Program, Verdict};

use super::interpreter::Interpreter;
use super::protocol::{Layers, Plan};
use super::verdict::{self, Remains, Stopped, TOKEN_BYTES};
use super::{SandboxError, SandboxOptions, system};

/// Wall time until the interpreter reaches the program. Usually 30 ms; generous, because nothing is learnt about a program from it.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Processor time that is left over the wall time, seconds: the clock is the limit, this is for the case that the clock's owner dies.
const CPU_MARGIN_S: u64 = 2;

/// Captured standard error, bytes.
const STDERR_BYTES: u64 = 64 << 10;

/// Longest conversation on the socket, bytes: a report of some hundred bytes, or a reason, and the token.
const SOCKET_BYTES: u64 = 8 << 10;

/// Share of its wall time that a program may wait for a processor before its timeout counts as the machine's. At 5 % a 3 s limit leaves
/// 2.85 s, and programs that need that much are as rare as those that need 3.
const WAITED_RATIO: f64 = 0.05;

/// Wall time where the limit is no time (infinite, negative, not a number): a day.
const LONGEST: Duration = Duration::from_hours(24);

/// Most wall time a second attempt gets for the time that it waited for a processor, as other programs of the machine may go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the end of a process that has closed its streams is looked for.
const POLL: Duration = Duration::from_millis(1);

/// Runs Python programs, isolated from the machine.
///
/// The layers are tried once when it is made; each run puts them up again and refuses by itself when landlock is not enforced.
#[derive(Debug)]
pub struct PythonSandbox {
    options: SandboxOptions,
    interpreter: Interpreter,
    layers: Layers,
    /// Working folder of the programs: empty, readable, not writable.
    folder: tempfile::TempDir,
    retried: usize,
}

/// One run.
#[derive(Debug)]
struct Attempt {
    verdict: Verdict,
    layers: Option<Layers>,
    /// The time ran out, and the machine's load may be why.
    is_load_related: bool,
}

enum Event {
    /// The interpreter has reached the program.
    Started,
    /// A stream is over its limit.
    Full,
    /// A stream is at its end.
    Closed,
}

impl PythonSandbox {
    /// The sandbox for `python3` on PATH.
    ///
    /// # Errors
    /// When there is no such interpreter, when landlock is not enforced, or when a program that does nothing does not pass.
    pub fn new() -> Result<Self, SandboxError> {
        Self::with_options(SandboxOptions::default())
    }

    /// The sandbox with other settings.
    ///
    /// # Errors
    /// As [`PythonSandbox::new`].
    pub fn with_options(options: SandboxOptions) -> Result<Self, SandboxError> {
        let interpreter = Interpreter::find(&options.python)?;
        let folder = tempfile::tempdir().map_err(SandboxError::Folder)?;
        let layers = Layers {
            namespaces: false,
            landlock_abi: None,
            seccomp: false,
            rlimits: false,
            thread_limit: false,
            capabilities_dropped: false,
        };
        let mut sandbox = Self { options, interpreter, layers, folder, retried: 0 };
        let trial =
            sandbox.attempt("pass", &Limits { timeout_s: START_LIMIT.as_secs_f64(), ..Limits::default() }, Duration::ZERO);
        match (trial.verdict, trial.layers) {
            (Verdict::Pass { .. }, Some(layers)) => {
                sandbox.layers = layers;
                Ok(sandbox)
            }
            (Verdict::NotRun { reason }, _) => Err(SandboxError::NotConfined { reason }),
            (verdict, _) => {
                let reason = format!("expected the program `pass` to pass, found `{}`", verdict.name());
                Err(SandboxError::NotConfined { reason })
            }
        }
    }

    /// The programs' working folder: empty, and theirs to read only.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The layers that hold.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The real interpreter.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter.path
    }

    /// The interpreter's version, `major.minor.patch`; scores depend on it and record it.
    pub fn python_version(&self) -> &str {
        &self.interpreter.version
    }

    /// Timeouts that were run a second time, alone, because the machine's load may have caused them.
    pub fn retried_timeouts(&self) -> usize {
        self.retried
    }

    /// The verdict of an attempt, after a second one where the first says more about the machine than about the program.
    fn settle(&mut self, attempt: Attempt, source: &str, limits: &Limits) -> Verdict {
        if !attempt.is_load_related {
            return attempt.verdict;
        }
        self.retried += 1;
        self.attempt(source, limits, PATIENCE).verdict
    }

    /// Runs a program once. `patience` is the most that its wall time is prolonged by the time it waits for a processor.
    fn attempt(&self, source: &str, limits: &Limits, patience: Duration) -> Attempt {
        self.try_attempt(source, limits, patience).unwrap_or_else(|error| Attempt {
            verdict: Verdict::NotRun { reason: format!("cannot start `{}`: {error}", self.options.launcher.display()) },
            layers: None,
            is_load_related: false,
        })
    }

    fn try_attempt(&self, source: &str, limits: &Limits, patience: Duration) -> io::Result<Attempt> {
        let token: [u8; TOKEN_BYTES] = std::array::from_fn(|_| b"0123456789abcdef"[rand::random_range(0..16)]);
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = self.spawn(limits, theirs)?;
        let pid = child.id();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (events, inbox) = mpsc::channel();
        let remains = std::thread::scope(|scope| {
            let (from_stdout, from_stderr, from_socket) = (events.clone(), events.clone(), events);
            let stdout = scope.spawn(move || drain(stdout, limits.output_bytes, &from_stdout, |_| false));
            let stderr = scope.spawn(move || drain(stderr, STDERR_BYTES, &from_stderr, |_| false));
            let token = &token;
            let socket = scope.spawn(move || {
                // A program that does not listen has ended, which the read shows.
                let _ = hand_over(&ours, source, token);
                drain(ours, SOCKET_BYTES, &from_socket, verdict::has_started)
            });
            let watched = watch(&mut child, &inbox, limits, patience);
            if watched.0 != Stopped::No {
                // Before the streams are waited for. The group, or the launcher that has not made one yet.
                system::kill_group(pid);
                let _ = child.kill();
            }
            let status = child.wait();
            let joined = [socket, stdout, stderr].map(|reader| reader.join().expect("a reader does not panic"));
            (watched, status, joined)
        });
        let ((stopped, waited_ratio), status, [socket, stdout, stderr]) = remains;
        let remains = Remains { socket, stdout, stderr, status: status?, stopped };
        Ok(Attempt {
            verdict: verdict::judge(&remains, &token),
            layers: verdict::layers(&remains.socket),
            is_load_related: is_load_related(stopped, waited_ratio),
        })
    }

    fn spawn(&self, limits: &Limits, socket: UnixStream) -> io::Result<Child> {
        let mut readable = self.interpreter.readable.clone();
        readable.push(self.folder.path().to_owned());
        let plan = Plan {
            interpreter: self.interpreter.path.clone(),
            executable: self.interpreter.executable.clone(),
            readable,
            memory_bytes: limits.memory_bytes,
            cpu_s: limits.timeout_s.ceil() as u64 + CPU_MARGIN_S,
            parent: std::process::id(),
            unsafe_exec: self.options.unsafe_exec,
        };
        // The command, and with it our copy of the socket's other end, is dropped here: the program's end must close it.
        Command::new(&self.options.launcher)
            .arg("__sandbox")
            .arg(serde_json::to_string(&plan)?)
            .current_dir(self.folder.path())
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Executor for PythonSandbox {
    fn run(&mut self, program: &str, limits: &Limits) -> Verdict {
        let attempt = self.attempt(program, limits, Duration::ZERO);
        self.settle(attempt, program, limits)
    }

    /// Runs programs, at most [`SandboxOptions::parallel`] at once; verdicts in their order.
    fn run_all(&mut self, programs: &[Program]) -> Vec<Verdict> {
        let next = AtomicUsize::new(0);
        let this = &*self;
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(program) = programs.get(i) else { return done };
                done.push((i, this.attempt(&program.source, &program.limits, Duration::ZERO)));
            }
        };
        let mut attempts: Vec<(usize, Attempt)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.options.parallel.clamp(1, programs.len().max(1))).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
        });
        attempts.sort_by_key(|(i, _)| *i);
        // Alone only now, when the others are through.
        attempts.into_iter().map(|(i, attempt)| self.settle(attempt, &programs[i].source, &programs[i].limits)).collect()
    }
}

/// Gives the program to the bootstrap; the token as a write of its own, so that it is read as one.
fn hand_over(mut socket: &UnixStream, source: &str, token: &[u8; TOKEN_BYTES]) -> io::Result<()> {
    socket.write_all(format!("{:08x}", source.len()).as_bytes())?;
    socket.write_all(source.as_bytes())?;
    socket.write_all(token)?;
    socket.shutdown(Shutdown::Write)
}

/// Reads a stream to its end or limit; says once when `has_started` holds for what was read.
fn drain(mut stream: impl Read, limit_bytes: u64, events: &Sender<Event>, has_started: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let mut started = false;
    loop {
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0, // a reset: the other side is gone
        };
        if count == 0 {
            let _ = events.send(Event::Closed);
            return bytes;
        }
        bytes.extend_from_slice(&chunk[..count]);
        if !started && has_started(&bytes) {
            started = true;
            let _ = events.send(Event::Started);
        }
        if bytes.len() as u64 > limit_bytes {
            bytes.truncate(limit_bytes as usize);
            let _ = events.send(Event::Full);
            return bytes; // the stream is dropped: who goes on writing gets an error
        }
    }
}

/// Waits for the end of the process (which is then reaped), its limit of output or its deadline. Also gives the share of its wall time that it waited for a
/// processor, where the kernel keeps count.
fn watch(child: &mut Child, inbox: &mpsc::Receiver<Event>, limits: &Limits, patience: Duration) -> (Stopped, Option<f64>) {
    let mut since = Instant::now();
    let mut wall = START_LIMIT;
    let mut prolonged = Duration::ZERO;
    let mut waited_before = Duration::ZERO;
    let mut open_streams = 3;
    loop {
        let left = (wall + prolonged).saturating_sub(since.elapsed());
        if left.is_zero() {
            let waited = waited(child.id()).map(|waited| waited.saturating_sub(waited_before));
            let allowed = waited.unwrap_or_default().min(patience);
            if allowed > prolonged + POLL {
                prolonged = allowed;
                continue;
            }
            return (Stopped::Timeout, waited.map(|waited| waited.as_secs_f64() / wall.as_secs_f64()));
        }
        let event = if open_streams > 0 {
            inbox.recv_timeout(left)
        } else if matches!(child.try_wait(), Ok(None)) {
            // A program may close its streams and live on.
            std::thread::sleep(POLL.min(left));
            continue;
        } else {
            return (Stopped::No, None);
        };
        match event {
            Ok(Event::Started) => {
                since = Instant::now();
                wall = Duration::try_from_secs_f64(limits.timeout_s).unwrap_or(LONGEST);
                waited_before = waited(child.id()).unwrap_or_default();
            }
            Ok(Event::Closed) => open_streams -= 1,
            Ok(Event::Full) => return (Stopped::Output, None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open_streams = 0,
        }
    }
}

/// The time ran out, and the program may have lacked a processor for it. Without the kernel's account: in doubt for the program.
fn is_load_related(stopped: Stopped, waited_ratio: Option<f64>) -> bool {
    stopped == Stopped::Timeout && waited_ratio.is_none_or(|ratio| ratio >= WAITED_RATIO)
}

/// Time that the main thread of a process was ready to run and had no processor. `/proc/<pid>/schedstat`: nanoseconds run, nanoseconds
/// waited, times run.
fn waited(pid: u32) -> Option<Duration> {
    let account = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    account.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_the_machines_when_the_program_waited() {
        assert!(is_load_related(Stopped::Timeout, Some(0.4)));
        assert!(is_load_related(Stopped::Timeout, None));
        // a program that slept or ran all the time
        assert!(!is_load_related(Stopped::Timeout, Some(0.01)));
        // whatever else ended it is its own
        assert!(!is_load_related(Stopped::Output, Some(0.4)));
        assert!(!is_load_related(Stopped::No, None));
    }

    #[test]
    fn the_own_process_has_an_account_of_its_waiting() {
        if !Path::new("/proc/self/schedstat").exists() {
            eprintln!("skipped: this kernel keeps no account of waiting");
            return;
        }
        assert!(waited(std::process::id()).is_some());
        assert_eq!(waited(u32::MAX), None);
    }

    #[test]
    fn reading_stops_at_the_limit_and_says_so() {
        let (events, inbox) = mpsc::channel();
        assert_eq!(drain(&b"abcdef"[..], 6, &events, |_| false), b"abcdef");
        assert!(matches!(inbox.try_iter().collect::<Vec<_>>()[..], [Event::Closed]));
        assert_eq!(drain(&b"abcdef"[..], 5, &events, |bytes| bytes.starts_with(b"a")), b"abcde");
        assert!(matches!(inbox.try_iter().collect::<Vec<_>>()[..], [Event::Started, Event::Full]));
    }
}
