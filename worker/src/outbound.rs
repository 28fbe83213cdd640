//! Stage 9: calls to the outside: one client a service, a span around each call, answers bounded, and what a status
//! means.

pub mod breaker;
pub mod classify;
pub mod credential;
pub mod egress;
pub mod fleet;
pub mod flow;
pub mod lease;
pub mod reach;
pub mod upstreams;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Client, Request, Response, Url};
use shared::failure::Failure;
use shared::telemetry::TRACE;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use egress::{Egress, Refused};

/// Most bytes of an answer that are read; the rest is cut.
pub const MAX_ANSWER: usize = 10 * 1024 * 1024;
/// A connection that is silent for so long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Most redirects in a row that [`Outbound::fetch`] follows.
pub const MAX_HOPS: usize = 5;

/// The client of one service.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client,
    /// Whether the trace context is sent along: to our users' own endpoints, not to strangers.
    propagate: bool,
    /// Where calls may go.
    egress: Egress,
}

/// An answer, read to its end or to [`MAX_ANSWER`].
#[derive(Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether there was more of the body. Whoever asked has asked for too much: the other side did as it was told.
    pub cut: bool,
}

impl Answer {
    /// The failure of an answer that cannot be read, for it is no `what`. One that was cut says of a call that may be
    /// made again (`repeatable`) that it asks for too much, which is not the upstream's fault; otherwise nobody knows
    /// what has become of the call.
    pub fn unreadable(&self, what: &str, repeatable: bool) -> Failure {
        if self.cut && repeatable {
            oversized()
        } else {
            Failure::unknown("answer", format!("no {what}: {}", classify::excerpt(self)))
        }
    }
}

/// The failure of an answer that is longer than is read.
pub(crate) fn oversized() -> Failure {
    let detail = format!("the answer has more than {MAX_ANSWER} bytes");
    Failure::permanent("oversized", detail)
}

impl Outbound {
    /// A client with room for `concurrency` connections to its host. Follows no redirects: a signed or authorised
    /// request must not go where the other side points.
    pub fn new(concurrency: usize, propagate: bool, egress: Egress) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(concurrency)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(egress.clone())
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self {
            client,
            propagate,
            egress,
        })
    }

    /// The client, to build requests with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a call. `route` names the kind of call in the trace, without ids.
    ///
    /// # Errors
    /// Transient: no connection, a connection that breaks, a timeout. Permanent: an address that may not be called.
    pub async fn call(&self, mut request: Request, route: &str) -> Result<Answer, Failure> {
        let span = call_span(&request, route);
        if self.propagate {
            propagate(&span, request.headers_mut());
        }
        let result = self.exchange(request).instrument(span.clone()).await;
        match &result {
            Ok(answer) => answered(&span, answer.status),
            Err(failure) => failed(&span, failure),
        }
        result
    }

    /// Makes a call that reads and follows at most [`MAX_HOPS`] redirects: to `https`, or by the scheme of the first
    /// call, and to where calls may go. Whatever could be a credential stays with the first host and port.
    ///
    /// # Errors
    /// As [`call`](Self::call). Permanent: a redirect that may not be followed.
    pub async fn fetch(&self, request: Request, route: &str) -> Result<Answer, Failure> {
        let first = request.url().clone();
        let mut headers = request.headers().clone();
        let method = request.method().clone();
        let mut next = request;
        for _ in 0..=MAX_HOPS {
            let url = next.url().clone();
            let answer = self.call(next, route).await?;
            let Some(target) = redirect(&method, &answer, &url) else {
                return Ok(answer);
            };
            let target = target.map_err(|what| Failure::permanent("redirect", what))?;
            if target.scheme() != "https" && target.scheme() != first.scheme() {
                return Err(Failure::permanent("redirect", "leads to a call without TLS"));
            }
            if target.origin() != first.origin() {
                let accept = headers.remove(header::ACCEPT);
                headers = accept
                    .map(|accept| (header::ACCEPT, accept))
                    .into_iter()
                    .collect();
            }
            next = Request::new(method.clone(), target);
            *next.headers_mut() = headers.clone();
        }
        Err(Failure::permanent(
            "redirect",
            "more redirects in a row than are followed",
        ))
    }

    /// Makes a call, as far as the head of its answer.
    async fn begin(&self, request: Request) -> Result<Response, Failure> {
        self.egress
            .check(request.url())
            .map_err(|refused| Failure::permanent(egress::REFUSED, refused))?;
        self.client.execute(request).await.map_err(|e| broken(&e))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Failure> {
        let mut response = self.begin(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await.map_err(|e| broken(&e))? {
            // The status and the headers have said what matters: done is done, and refused is refused.
            cut = body.len() + chunk.len() > MAX_ANSWER;
            if cut {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            headers,
            body: body.into(),
            cut,
        })
    }
}

/// The span of a call.
fn call_span(request: &Request, route: &str) -> Span {
    tracing::info_span!(
        target: TRACE,
        "call",
        otel.name = %format_args!("{} {route}", request.method()),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = %request.method(),
        url.full = %redacted(request.url()),
        server.address = request.url().host_str(),
        server.port = request.url().port_or_known_default(),
        http.response.status_code = Empty,
        error.type = Empty,
    )
}

/// Tells a call's span how it was answered.
fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_client_error() || status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Tells a call's span why it was not.
fn failed(span: &Span, failure: &Failure) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", &*failure.reason().code);
}

/// Where an answer to a call that reads leads to, if it leads anywhere.
fn redirect(method: &Method, answer: &Answer, from: &Url) -> Option<Result<Url, String>> {
    let leads = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !leads || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let location = answer.headers.get(header::LOCATION)?;
    let target = location
        .to_str()
        .map_err(|_| "leads to what is no text".to_owned());
    Some(target.and_then(|target| from.join(target).map_err(|e| format!("leads to no URL: {e}"))))
}

/// A URL without its query, which may hold secrets.
fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.into()
}

fn broken(error: &reqwest::Error) -> Failure {
    let code = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "connection"
    };
    // The innermost cause says most; the outer ones repeat the URL.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Failure::permanent(egress::REFUSED, refused);
        }
    }
    let host = error
        .url()
        .map(|url| format!(" ({})", url.origin().ascii_serialization()))
        .unwrap_or_default();
    let detail = format!("{cause}{host}");
    // Without a connection nothing was sent; of anything later it is not known how far it went.
    if error.is_connect() {
        Failure::transient(code, detail)
    } else {
        Failure::unknown(code, detail)
    }
}

fn propagate(span: &Span, headers: &mut HeaderMap) {
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let mut context = async_nats::HeaderMap::new();
    shared::telemetry::propagation::inject(&span.context(), &mut context);
    for (name, values) in context.iter() {
        let name = http::HeaderName::try_from(<_ as AsRef<str>>::as_ref(name));
        let value = values
            .first()
            .and_then(|v| http::HeaderValue::from_str(v.as_str()).ok());
        if let (Ok(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
