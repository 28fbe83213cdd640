//! Rules that change while workers run: the file is looked at again and again by its content, so that it does not matter
//! how it is replaced (Kubernetes swaps a link). What cannot be put in force is told, and what was in force stays.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use rules::{Rule, Rules};
use shared::config::environment::read_bounded;
use shared::config::fleet::Streams;
use shared::config::{Environment, Problems, Reader};
use shared::subject::Service;
use shared::topology;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::metrics::RuleMetrics;
use super::settings::Book;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// How long reading it may take: the file may lie on a server that does not answer.
const WITHIN: Duration = Duration::from_secs(5);

/// So many looks in a row at which it is another each time are told.
const RESTLESS: u32 = 5;

/// Most things that are told of one file; `weir rules check` tells all.
const MOST_TOLD: usize = 10;

type ByService = BTreeMap<Service, Arc<Book>>;

/// The rules in force.
#[derive(Debug, Clone)]
pub struct InForce(watch::Receiver<Arc<ByService>>);

impl InForce {
    /// Those on the events of one service, as they are by now; `None` where there are none.
    pub fn of(&self, service: &Service) -> Option<Arc<Book>> {
        self.0.borrow().get(service).cloned()
    }
}

/// Puts rules in force.
#[derive(Debug)]
pub struct Rulebook {
    book: Book,
    services: Vec<Service>,
    in_force: watch::Sender<Arc<ByService>>,
    metrics: RuleMetrics,
    /// The file as it was found last.
    found: Option<Found>,
    /// Whether that was judged already.
    judged: bool,
    /// Looks in a row that found it other than the one before.
    restless: u32,
}

/// A file's content, or why it cannot be read.
type Found = Result<Vec<u8>, String>;

/// What is to be done about the file.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is as it was, or is being written.
    Nothing,
    /// Its rules are to be put in force.
    Change(Book),
    /// It cannot be put in force.
    Refused(String),
}

impl Rulebook {
    /// Puts the rules of the settings in force, for a fleet of these services.
    pub fn new(book: Book, services: Vec<Service>, metrics: RuleMetrics) -> (Self, InForce) {
        metrics.in_force(book.rules.all().len());
        let (in_force, reader) = watch::channel(Arc::new(by_service(&book)));
        let rulebook = Self {
            book,
            services,
            in_force,
            metrics,
            found: None,
            judged: false,
            restless: 0,
        };
        (rulebook, InForce(reader))
    }

    /// Looks at the file for ever. Services that changed rules emit to have streams before these are in force.
    pub async fn follow(
        &mut self,
        js: &jetstream::Context,
        streams: &Streams,
        own: &[Service],
    ) -> Result<(), Infallible> {
        let Some(file) = self.book.file.clone() else {
            return std::future::pending().await;
        };
        let mut look = Look::default();
        loop {
            tokio::time::sleep(EVERY).await;
            let path = file.clone();
            match self.step(look.at(move || read(&path), WITHIN).await) {
                Step::Nothing => {}
                Step::Change(book) => {
                    if let Err(error) = topology::ensure(js, &others(&book.rules, own), streams).await {
                        self.metrics.stale(true);
                        tracing::warn!(%error, "changed rules wait for the streams that they emit to");
                        self.judged = false;
                        continue;
                    }
                    self.put(book);
                }
                Step::Refused(what) => {
                    self.metrics.stale(true);
                    let file = file.display();
                    tracing::error!(%file, "the rules file is wrong, what was in force stays: {what}");
                }
            }
        }
    }

    /// What a look at the file comes to. It counts when it is found twice the same: not while it is being written.
    fn step(&mut self, found: Found) -> Step {
        if self.found.as_ref() != Some(&found) {
            let first = self.found.replace(found).is_none();
            self.judged = false;
            self.restless = self.restless.saturating_add(u32::from(!first));
            if self.restless == RESTLESS {
                return Step::Refused(format!("is another at each of {RESTLESS} looks, {EVERY:?} apart"));
            }
            return Step::Nothing;
        }
        self.restless = 0;
        if std::mem::replace(&mut self.judged, true) {
            return Step::Nothing;
        }
        match found.and_then(|bytes| self.read(bytes)) {
            Ok(book) if book.rules == self.book.rules => {
                self.metrics.stale(false);
                Step::Nothing
            }
            Ok(book) => Step::Change(book),
            Err(what) => Step::Refused(what),
        }
    }

    /// Reads rules as they are read at the start.
    fn read(&self, bytes: Vec<u8>) -> Result<Book, String> {
        let text = String::from_utf8(bytes).map_err(|error| format!("is no text: {error}"))?;
        // Not as if it had never been there: what has rules and is emptied may be in the middle of being written.
        if text.trim().is_empty() && !self.book.rules.is_empty() {
            return Err("is empty; a file that says `rule = []` has no rules".to_owned());
        }
        let hops = self.book.hops.to_string();
        let settings = [("WEIR_RULES", text), ("WEIR_RULES_HOPS", hops)];
        let settings: BTreeMap<String, String> = settings.map(|(name, text)| (name.to_owned(), text)).into();
        let settings: &dyn Environment = &settings;
        let mut reader = Reader::new(settings);
        let book = Book::read(&mut reader, &self.services);
        match reader.finish(&[], book) {
            Ok((book, _)) => Ok(Book {
                file: self.book.file.clone(),
                ..book
            }),
            Err(Problems(lines)) => {
                let more = match lines.len().saturating_sub(MOST_TOLD) {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                Err(lines[..lines.len().min(MOST_TOLD)].join("; ") + &more)
            }
        }
    }

    fn put(&mut self, book: Book) {
        let (before, after) = (self.book.rules.all().len(), book.rules.all().len());
        tracing::info!(before, after, "changed rules are in force");
        self.in_force.send_replace(Arc::new(by_service(&book)));
        self.metrics.in_force(after);
        self.metrics.changed();
        self.metrics.stale(false);
        self.book = book;
    }
}

/// The services that these rules emit to and that are none of our own.
pub fn others(rules: &Rules, own: &[Service]) -> Vec<Service> {
    let others = rules.targets().into_iter().filter(|target| !own.contains(target));
    others.cloned().collect()
}

fn by_service(book: &Book) -> ByService {
    let services = book.rules.all().iter().map(Rule::service);
    services
        .filter_map(|service| Some((service.clone(), Arc::new(book.of(service)?))))
        .collect()
}

/// Looks at a file one at a time, on threads of their own.
#[derive(Default)]
struct Look(Option<JoinHandle<Found>>);

impl Look {
    /// What `read` finds, or that it takes too long. As long as one look has no end, no other is begun.
    async fn at(&mut self, read: impl FnOnce() -> Found + Send + 'static, within: Duration) -> Found {
        let begun = self.0.get_or_insert_with(|| tokio::task::spawn_blocking(read));
        let found = tokio::time::timeout(within, begun).await;
        let found = found.map_err(|_| format!("cannot be read: no answer within {within:?}"))?;
        self.0 = None;
        found.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn read(path: &Path) -> Found {
    read_bounded(path).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
