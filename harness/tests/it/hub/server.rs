//! A hub on the loopback device: redirects, entity tags, byte ranges, and the ways in which real ones misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

/// The commit of everything.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a file's content is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// As asked.
    None,
    /// The first whole answer ends after that many bytes.
    CutOnce(usize),
    /// Every answer ends after that many bytes.
    CutAlways(usize),
    /// Nothing after the head.
    Stall,
    /// Another text of the same length than the entity tag names.
    Corrupt,
    /// A page without the hub's headers.
    LoginPage,
    /// That status for the file, while the repository's description is open.
    Status(u16),
}

/// Repositories by the path in their address (`datasets/org/name`, `org/name`): files and how they are answered.
pub(crate) type Repositories = BTreeMap<String, BTreeMap<String, (Vec<u8>, Quirk)>>;

struct State {
    address: String,
    repositories: Repositories,
    log: Mutex<Vec<(String, String)>>,
    cut: Mutex<BTreeSet<String>>,
}

/// A running hub; it ends with the test process.
pub(crate) struct Server(Arc<State>);

impl Server {
    pub(crate) fn start(repositories: Repositories) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { address, repositories, log: Mutex::default(), cut: Mutex::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that hangs up is its own business.
                std::thread::spawn(move || state.answer(stream).ok());
            }
        });
        Self(state)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// `Range` headers of the requests for a file's content, in order.
    pub(crate) fn ranges(&self, file: &str) -> Vec<String> {
        let log = self.0.log.lock().unwrap();
        log.iter().filter(|(path, _)| path.starts_with("/cdn/") && path.ends_with(file)).map(|(_, range)| range.clone()).collect()
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.0.log.lock().unwrap().len()
    }
}

impl State {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = String::new();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("range")) {
                assert!(!name.is_empty());
                value.trim().clone_into(&mut range);
            }
        }
        self.log.lock().unwrap().push((path.clone(), range.clone()));
        if let Some(rest) = path.strip_prefix("/api/") {
            return self.describe(stream, rest);
        }
        let is_content = path.starts_with("/cdn/");
        let rest = path.strip_prefix("/cdn/").or_else(|| path.strip_prefix('/')).unwrap_or_default();
        let file = rest.split_once("/resolve/").and_then(|(repository, rest)| {
            let (revision, file) = rest.split_once('/')?;
            let known = ["main", COMMIT].contains(&revision);
            self.repositories.get(repository).filter(|_| known)?.get(file)
        });
        let Some((content, quirk)) = file else { return reply(stream, "404 Not Found", "", b"no such entry") };
        match quirk {
            Quirk::Status(status) => reply(stream, &format!("{status} Refused"), "", b"refused"),
            Quirk::LoginPage => reply(stream, "200 OK", "Content-Type: text/html\r\n", b"<!DOCTYPE html><title>Log in</title>"),
            _ if is_content => self.send(stream, &path, &range, content, *quirk),
            _ => {
                let etag = records::ids::sha256_hex(content);
                let location = format!("{}/cdn{path}", self.address);
                let head =
                    format!("Location: {location}\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-ETag: \"{etag}\"\r\nETag: \"x\"\r\n");
                reply(stream, "302 Found", &head, b"")
            }
        }
    }

    fn describe(&self, stream: TcpStream, rest: &str) -> std::io::Result<()> {
        let (repository, revision) = rest.split_once("/revision/").unwrap_or((rest, "main"));
        let repository = repository.strip_prefix("models/").unwrap_or(repository);
        if repository.ends_with("/private") {
            return reply(stream, "401 Unauthorized", "", b"{\"error\": \"Invalid username or password.\"}");
        }
        if repository.ends_with("/page") {
            return reply(stream, "200 OK", "", b"<html><body>Log in</body></html>");
        }
        match self.repositories.get(repository) {
            Some(files) if ["main", COMMIT].contains(&revision) => {
                let siblings: Vec<_> = files.keys().map(|file| json!({"rfilename": file})).collect();
                reply(stream, "200 OK", "", json!({"sha": COMMIT, "siblings": siblings}).to_string().as_bytes())
            }
            _ => reply(stream, "404 Not Found", "", b"{\"error\": \"not found\"}"),
        }
    }

    fn send(&self, mut stream: TcpStream, path: &str, range: &str, content: &[u8], quirk: Quirk) -> std::io::Result<()> {
        let bounds = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let start: usize = bounds.0.parse().unwrap();
        let is_probe = bounds == ("0", "0");
        let end = if is_probe { 1.min(content.len()) } else { content.len() };
        if start >= content.len() {
            return reply(stream, "416 Range Not Satisfiable", "", b"");
        }
        let mut body = content[start..end].to_vec();
        if quirk == Quirk::Corrupt {
            body.reverse();
        }
        let total = content.len();
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{total}\r\nETag: \"x\"\r\nConnection: close\r\n\r\n",
            body.len(),
            end - 1
        )?;
        match quirk {
            _ if is_probe => {}
            Quirk::CutOnce(length) if self.cut.lock().unwrap().insert(path.to_owned()) => body.truncate(length),
            Quirk::CutAlways(length) => body.truncate(length),
            Quirk::Stall => std::thread::sleep(Duration::from_secs(20)),
            _ => {}
        }
        stream.write_all(&body)
    }
}

fn reply(mut stream: TcpStream, status: &str, head: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n", body.len())?;
    stream.write_all(body)
}
