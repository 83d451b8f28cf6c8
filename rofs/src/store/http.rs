//! Chunks from a server, by plain HTTP: a store that it serves, or a whole image by ranges.
//!
//! There is no TLS: what comes is verified against the index, so what a stranger on the way could do is see it or hold
//! it back. Put a proxy in front of a server that speaks HTTPS only.

use super::source::{ChunkSource, relative};
use crate::failure::Failure;
use blake3::Hash;
use std::io;
use std::time::Duration;

/// How often a request is made before it is given up.
const ATTEMPTS: u32 = 5;
/// How long to wait before the second attempt; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long a request may take, its answer included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    Store,
    Image,
}

/// A server.
#[derive(Clone, Debug)]
pub struct HttpSource {
    agent: ureq::Agent,
    url: String,
    serves: Serves,
    first_wait: Duration,
}

/// How a request ended that is not to be made again.
enum Answer {
    Data(Vec<u8>),
    Status(u16),
}

impl HttpSource {
    /// A store at `url`: chunks are at `URL/chunks/ab/abcdef…`.
    ///
    /// # Errors
    /// [`Failure::Input`] if this is no `http://` address.
    pub fn store(url: &str) -> Result<Self, Failure> {
        Self::new(url, Serves::Store)
    }

    /// A whole image at `url`, of which ranges are asked for.
    ///
    /// # Errors
    /// [`Failure::Input`] if this is no `http://` address.
    pub fn image(url: &str) -> Result<Self, Failure> {
        Self::new(url, Serves::Image)
    }

    /// Whichever of both `url` is: a store, if the chunk of this digest is there.
    ///
    /// # Errors
    /// As [`store`](Self::store), and what the request says.
    pub fn detect(url: &str, digest: &Hash, len: u32) -> Result<Self, Failure> {
        let store = Self::store(url)?;
        let path = format!("{}/{}", store.url, relative(digest));
        match store.ask(&path, None, len)? {
            Answer::Data(_) => Ok(store),
            Answer::Status(_) => Self::image(url),
        }
    }

    fn new(url: &str, serves: Serves) -> Result<Self, Failure> {
        if !url.starts_with("http://") {
            return Err(Failure::input(url, "not an http:// address", "HTTPS needs a proxy in front of it"));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(3)
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, serves, first_wait: FIRST_WAIT })
    }

    /// Asks until there is an answer, or too often.
    fn ask(&self, url: &str, range: Option<(u64, u64)>, len: u32) -> Result<Answer, Failure> {
        let mut wait = self.first_wait;
        let mut attempt = 1;
        loop {
            let error = match self.ask_once(url, range, len) {
                // A server that is overloaded or being restarted may answer later.
                Ok(Answer::Status(status)) if status == 429 || status >= 500 => {
                    io::Error::other(format!("the server answers {status}"))
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if attempt >= ATTEMPTS {
                let object = format!("{url} ({ATTEMPTS} attempts)");
                return Err(Failure::Io { action: "fetch", object, source: error });
            }
            attempt += 1;
            std::thread::sleep(wait);
            wait = wait.saturating_mul(2);
        }
    }

    fn ask_once(&self, url: &str, range: Option<(u64, u64)>, len: u32) -> io::Result<Answer> {
        let mut request = self.agent.get(url);
        if let Some((first, last)) = range {
            request = request.header("Range", format!("bytes={first}-{last}"));
        }
        let mut response = request.call().map_err(ureq::Error::into_io)?;
        let status = response.status().as_u16();
        // A server that gives all of an image for a range would give it for every chunk.
        if status != if range.is_some() { 206 } else { 200 } {
            return Ok(Answer::Status(status));
        }
        let body = response.body_mut().with_config().limit(u64::from(len).saturating_add(1));
        let data = body.read_to_vec().map_err(ureq::Error::into_io)?;
        Ok(Answer::Data(data))
    }
}

impl ChunkSource for HttpSource {
    fn get(&self, digest: &Hash, offset: u64, len: u32) -> Result<Vec<u8>, Failure> {
        let (url, range) = match self.serves {
            Serves::Store => (format!("{}/{}", self.url, relative(digest)), None),
            Serves::Image => {
                let last = offset.saturating_add(u64::from(len)).saturating_sub(1);
                (self.url.clone(), Some((offset, last)))
            }
        };
        match self.ask(&url, range, len)? {
            Answer::Data(data) => Ok(data),
            Answer::Status(200) if range.is_some() => {
                let reason = "the server does not serve ranges";
                Err(Failure::input(url, reason, "use one that does, or serve the store"))
            }
            Answer::Status(status) => {
                let reason = format!("the server answers {status}");
                Err(Failure::input(url, reason, "see that the address is that of a store or an image"))
            }
        }
    }

    fn name(&self) -> String {
        self.url.clone()
    }
}
