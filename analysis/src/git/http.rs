//! Git's smart HTTP over the client that the rest of the house uses: one TLS stack, addresses checked, no redirects,
//! no proxy of the environment, answers bounded.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gix_transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;

use super::budget::{Budget, Lines};
use crate::address::PublicOnly;
use crate::settings::Settings;

/// Longest request: what is wanted and what there is already, of one reference and no history.
const MAX_REQUEST: usize = 1 << 20;
/// Longest wait for one read or write; the budget has the time of all of them.
const SILENCE: Duration = Duration::from_secs(60);

/// The client of one fetch.
pub(crate) struct Wire {
    client: Client,
    budget: Budget,
}

impl Wire {
    pub(crate) fn new(settings: &Settings, budget: Budget) -> Result<Self, String> {
        let mut client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .timeout(SILENCE.min(settings.fetch_time))
            // Another address would have to be looked at as the first one was.
            .redirect(Policy::none())
            // A proxy would resolve names by itself.
            .no_proxy();
        if !settings.allow_private {
            client = client.https_only(true).dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self {
            client: client.build().map_err(|e| chain(&e))?,
            budget,
        })
    }

    fn exchange(
        &self,
        method: &Method,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Exchange {
        let mut request = self.client.request(method.clone(), url);
        for line in headers {
            let pair = line.as_ref().split_once(':').and_then(|(name, value)| {
                let value = HeaderValue::from_str(value.trim()).ok()?;
                Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
            });
            if let Some((name, value)) = pair {
                request = request.header(name, value);
            }
        }
        Exchange(Arc::new(Mutex::new(State::Open {
            request: Some(request),
            body: Vec::new(),
            budget: self.budget.clone(),
            pack: *method == Method::POST,
        })))
    }
}

/// One call, made when its answer is read first: by then the request's body is whole.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<Mutex<State>>);

enum State {
    Open {
        request: Option<RequestBuilder>,
        body: Vec<u8>,
        budget: Budget,
        /// Whether a pack may come.
        pack: bool,
    },
    Answered {
        headers: Cursor<Vec<u8>>,
        body: BufReader<Bounded>,
    },
    /// Its body is read by somebody.
    Taken,
}

fn failed_before() -> io::Error {
    io::Error::other("the call has failed before")
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answered(&mut self) -> io::Result<(&mut Cursor<Vec<u8>>, &mut BufReader<Bounded>)> {
        if let Self::Open {
            request,
            body,
            budget,
            pack,
        } = self
        {
            let request = request.take().ok_or_else(failed_before)?;
            let response = request
                .body(std::mem::take(body))
                .send()
                .map_err(|e| io::Error::other(chain(&e)))?;
            let headers = answer(&response)?;
            let body = BufReader::with_capacity(
                64 << 10,
                Bounded {
                    response,
                    budget: budget.clone(),
                    lines: pack.then(Lines::default),
                },
            );
            *self = Self::Answered {
                headers: Cursor::new(headers),
                body,
            };
        }
        match self {
            Self::Answered { headers, body } => Ok((headers, body)),
            Self::Open { .. } | Self::Taken => Err(failed_before()),
        }
    }
}

/// The header lines of an answer that is good.
fn answer(response: &Response) -> io::Result<Vec<u8>> {
    let status = response.status();
    if status.is_redirection() {
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.map_or("elsewhere", |to| to.split('?').next().unwrap_or_default());
        return Err(io::Error::other(format!(
            "the server sends to {to}; redirects are not followed"
        )));
    }
    if status.as_u16() == 401 {
        let what = "the server asks who we are: private repositories are not fetched";
        return Err(io::Error::other(what));
    }
    if !status.is_success() {
        return Err(io::Error::other(format!("the server answers {status}")));
    }
    let mut lines = Vec::new();
    for (name, value) in response.headers() {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    Ok(lines)
}

/// An answer's body, within the budget.
struct Bounded {
    response: Response,
    budget: Budget,
    /// `None` where no pack comes.
    lines: Option<Lines>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.response.read(buffer)?;
        let lines = self.lines.as_mut();
        let before_pack = lines.map_or(read, |lines| lines.before_pack(&buffer[..read]));
        self.budget.take(read, before_pack)?;
        Ok(read)
    }
}

/// The header lines of an exchange.
pub(crate) struct Headers(Exchange, Cursor<Vec<u8>>, bool);

impl Headers {
    fn load(&mut self) -> io::Result<()> {
        if !self.2 {
            self.1 = std::mem::take(self.0.lock().answered()?.0);
            self.2 = true;
        }
        Ok(())
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.load()?;
        self.1.read(buffer)
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.load()?;
        self.1.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.1.consume(amount);
    }
}

/// The body of an exchange's answer.
pub(crate) struct Body(Exchange, Option<BufReader<Bounded>>);

impl Body {
    fn inner(&mut self) -> io::Result<&mut BufReader<Bounded>> {
        match &mut self.1 {
            Some(body) => Ok(body),
            slot => {
                let mut state = self.0.lock();
                state.answered()?;
                match std::mem::replace(&mut *state, State::Taken) {
                    State::Answered { body, .. } => Ok(slot.insert(body)),
                    State::Open { .. } | State::Taken => Err(failed_before()),
                }
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner()?.read(buffer)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(body) = &mut self.1 {
            body.consume(amount);
        }
    }
}

/// The body of an exchange's request.
pub(crate) struct Post(Exchange);

impl Write for Post {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock() {
            State::Open { body, .. } if body.len() + bytes.len() <= MAX_REQUEST => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            State::Open { .. } => Err(io::Error::other("the request is longer than a fetch needs")),
            State::Answered { .. } | State::Taken => Err(io::Error::other("the request is sent already")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Http for Wire {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Post;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::error::Result<GetResponse<Headers, Body>> {
        let exchange = self.exchange(&Method::GET, url, headers);
        Ok(GetResponse {
            headers: Headers(exchange.clone(), Cursor::default(), false),
            body: Body(exchange, None),
        })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::error::Result<PostResponse<Headers, Body, Post>> {
        let exchange = self.exchange(&Method::POST, url, headers);
        Ok(PostResponse {
            post_body: Post(exchange.clone()),
            headers: Headers(exchange.clone(), Cursor::default(), false),
            body: Body(exchange, None),
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::error::Result {
        // What git's own configuration says of proxies, headers and TLS is not taken.
        Ok(())
    }
}

/// An error with its causes, without the URL, which the report names.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut at = Some(error);
    while let Some(error) = at {
        let text = error.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) && parts.len() < 8 {
            parts.push(text);
        }
        at = error.source();
    }
    parts.join(": ")
}
