//! Whose turn it is on a connection: ours while a request is worked on or its answer waits for us to go on, theirs while
//! nothing is asked or they do not take what they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What goes on on one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// Requests and answers that wait for us.
    ours: usize,
    /// Since when it is their turn, where none of those is.
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        let since = Instant::now();
        Self(watch::Sender::new(State { ours: 0, since }))
    }

    /// Returns when nothing was asked and nothing was taken for so long while it was their turn.
    pub(super) async fn silent(&self, silence: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            // The sender is here, too: there is no end of changes.
            let Ok(until) = changes
                .wait_for(|state| state.ours == 0)
                .await
                .map(|state| state.since + silence)
            else {
                return;
            };
            if until <= Instant::now() {
                return;
            }
            // Nobody is woken for each request: whether there were some is looked at in the end.
            sleep_until(until).await;
        }
    }
}

/// One request, and then its answer.
#[derive(Debug)]
struct Turn {
    activity: Activity,
    ours: bool,
}

impl Turn {
    fn new(activity: &Activity) -> Self {
        let mut turn = Self {
            activity: activity.clone(),
            ours: false,
        };
        turn.ours();
        turn
    }

    fn ours(&mut self) {
        if !std::mem::replace(&mut self.ours, true) {
            self.activity.0.send_if_modified(|state| {
                state.ours += 1;
                false
            });
        }
    }

    fn theirs(&mut self) {
        let was_ours = std::mem::take(&mut self.ours);
        self.activity.0.send_if_modified(|state| {
            state.since = Instant::now();
            state.ours -= usize::from(was_ours);
            was_ours && state.ours == 0
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.theirs();
    }
}

/// Answers the requests of a connection.
#[derive(Debug)]
pub(super) struct Answers {
    router: TowerToHyperService<Router>,
    activity: Activity,
}

impl Answers {
    pub(super) fn new(router: Router, activity: Activity) -> Self {
        let router = TowerToHyperService::new(router);
        Self { router, activity }
    }
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut turn = Turn::new(&self.activity);
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // Who takes nothing of it, its body is never asked for.
            turn.theirs();
            Ok(answer.map(|body| Answer { body, turn }))
        })
    }
}

/// An answer's body, in one turn or the other until it ends.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    turn: Turn,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.turn.ours();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.turn.theirs();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
