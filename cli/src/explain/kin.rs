//! What an event follows from and what follows from it, by rules: as workers record it beside outcomes, and as its own
//! message tells where nothing is recorded. Bounded, whatever rules have made of it.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::Value;
use shared::event::EventId;
use shared::subject::{Service, header, headers};
use sqlx::{Connection, PgConnection};

/// Longest way up, and down again: rules make no longer chains.
const MOST_HOPS: usize = rules::MAX_HOPS;
/// Most events shown that follow from one.
const MOST_CHILDREN: i64 = 10;
/// Most events shown in all, but for those between the event and its origin.
const MOST: usize = 100;
/// Most events shown that one follows from: with `dedup`, many may lead to the same.
const MOST_PARENTS: i64 = 5;
/// How long Postgres may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// An event of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
struct Place {
    service: String,
    id: String,
}

/// One event follows from another.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Link {
    #[sqlx(flatten)]
    parent: Place,
    rule: String,
    child_service: String,
    child_id: String,
    /// How many there are of its kind.
    total: i64,
}

impl Link {
    fn child(&self) -> Place {
        Place {
            service: self.child_service.clone(),
            id: self.child_id.clone(),
        }
    }
}

/// How an event stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Standing {
    #[sqlx(flatten)]
    place: Place,
    state: String,
    code: String,
    trace_id: String,
    finished_ms: i64,
}

/// Where a message says that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Told {
    own: Service,
    parent: Place,
    rule: String,
}

impl Told {
    /// Reads the headers of a message of this service; anybody can write them.
    pub(super) fn read(own: &Service, map: &HeaderMap) -> Option<Self> {
        let (service, id) = header(Some(map), headers::PARENT)?.split_once('/')?;
        let parent = Place {
            service: Service::new(service).ok()?.to_string(),
            id: EventId::new(id).ok()?.to_string(),
        };
        let rules = header(Some(map), headers::CHAIN).unwrap_or_default();
        let rule = rules.rsplit(',').next().unwrap_or_default().trim();
        Some(Self {
            own: own.clone(),
            parent,
            rule: rule.chars().take(rules::MAX_NAME).collect(),
        })
    }
}

/// An event's place among those that it follows from and that follow from it.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// The event itself: more than one where several services have one of its id.
    own: Vec<Place>,
    /// Where each of them began.
    roots: Vec<Place>,
    /// What it follows from at once.
    parents: Vec<Link>,
    /// What follows from what, in the order in which it is shown.
    children: BTreeMap<Place, Vec<Link>>,
    /// How many follow from each at once, those included that are not shown.
    totals: BTreeMap<Place, i64>,
    /// What is known of their ends; `None` when that could not be asked.
    standing: Option<Vec<Standing>>,
    /// Why nothing recorded is known.
    problem: Option<String>,
}

impl Kin {
    /// What is known without Postgres.
    pub(super) fn of(id: &EventId, told: Option<Told>) -> Self {
        let mut kin = Self::default();
        if let Some(told) = told {
            let own = Place {
                service: told.own.to_string(),
                id: id.to_string(),
            };
            kin.begin(own, Some(told.link(id)));
        }
        kin
    }

    /// What Postgres has of it, and what the event's own message tells where that is nothing.
    pub(super) async fn read(url: &str, id: &EventId, service: Option<&Service>, told: Option<Told>) -> Self {
        let ask = async {
            let mut connection = PgConnection::connect(url).await?;
            let kin = Self::look(&mut connection, id, service, told.clone()).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(kin)
        };
        let problem = match tokio::time::timeout(WITHIN, ask).await {
            Ok(Ok(kin)) => return kin,
            Ok(Err(error)) => format!("Postgres: {error}"),
            Err(_) => format!("Postgres did not answer within {} s", WITHIN.as_secs()),
        };
        Self {
            problem: Some(problem),
            ..Self::of(id, told)
        }
    }

    async fn look(
        connection: &mut PgConnection,
        id: &EventId,
        service: Option<&Service>,
        told: Option<Told>,
    ) -> Result<Self, sqlx::Error> {
        let mut services: BTreeSet<String> = sqlx::query_scalar(
            "select service from followed where event_id = $1
             union select child_service from followed where child_id = $1 limit 20",
        )
        .bind(id.as_str())
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .collect();
        services.extend(told.iter().map(|told| told.own.to_string()));
        services.retain(|own| service.is_none_or(|service| service.as_str() == own));
        let mut kin = Self::default();
        for own in services {
            let own = Place {
                service: own,
                id: id.to_string(),
            };
            let mut parents = parents(connection, &own).await?;
            if parents.is_empty() {
                let told = told.as_ref().filter(|told| told.own.as_str() == own.service);
                parents.extend(told.map(|told| told.link(id)));
            }
            let first = parents.first().cloned();
            kin.parents.extend(parents);
            kin.begin(own, first);
        }
        kin.climb(connection).await?;
        kin.descend(connection).await?;
        kin.standing = Some(standing(connection, &kin.places()).await?);
        Ok(kin)
    }

    /// Takes in the event and what it follows from.
    fn begin(&mut self, own: Place, parent: Option<Link>) {
        let root = parent
            .as_ref()
            .map_or_else(|| own.clone(), |link| link.parent.clone());
        self.own.push(own);
        self.roots.push(root);
        if let Some(link) = parent {
            if self.parents.is_empty() {
                self.parents.push(link.clone());
            }
            self.children.entry(link.parent.clone()).or_default().push(link);
        }
    }

    /// From where it begins to the origin of it.
    async fn climb(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for root in &mut self.roots {
            let mut seen: BTreeSet<Place> = self.own.iter().cloned().collect();
            for _ in 0..MOST_HOPS {
                // With `dedup` rules may lead back to where they came from.
                if !seen.insert(root.clone()) {
                    break;
                }
                let Some(link) = parents(connection, root).await?.into_iter().next() else {
                    break;
                };
                if seen.contains(&link.parent) {
                    break;
                }
                *root = link.parent.clone();
                let below = self.children.entry(root.clone()).or_default();
                if !below.contains(&link) {
                    below.push(link);
                }
            }
        }
        self.roots.sort();
        self.roots.dedup();
        Ok(())
    }

    /// From the origins to all that followed, level by level.
    async fn descend(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut seen: BTreeSet<Place> = self.roots.iter().cloned().collect();
        let mut level = self.roots.clone();
        for _ in 0..=2 * MOST_HOPS {
            if level.is_empty() {
                return Ok(());
            }
            let above: Vec<String> = level
                .iter()
                .filter_map(|place| self.children.get(place))
                .flatten()
                .map(|link| link.child_id.clone())
                .collect();
            let links = children(connection, &level, &above).await?;
            let mut next = Vec::new();
            for place in level {
                let mut of: Vec<Link> = links
                    .iter()
                    .filter(|link| link.parent == place)
                    .cloned()
                    .collect();
                let total = of.first().map_or(0, |link| link.total);
                let known = self.children.remove(&place).unwrap_or_default();
                let on_the_way = |link: &Link| known.iter().any(|one| one.child() == link.child());
                let missing = known
                    .iter()
                    .filter(|link| !of.iter().any(|one| one.child() == link.child()));
                let missing: Vec<Link> = missing.cloned().collect();
                of.extend(missing);
                of.retain(|link| {
                    let child = link.child();
                    if seen.contains(&child) {
                        return true;
                    }
                    if seen.len() >= MOST && !on_the_way(link) {
                        return false;
                    }
                    seen.insert(child.clone());
                    next.push(child);
                    true
                });
                if !of.is_empty() || total > 0 {
                    self.totals.insert(place.clone(), total);
                    self.children.insert(place, of);
                }
            }
            level = next;
        }
        Ok(())
    }

    fn places(&self) -> BTreeSet<Place> {
        let links = self.children.values().flatten();
        let all = links.flat_map(|link| [link.parent.clone(), link.child()]);
        all.chain(self.own.iter().cloned()).collect()
    }

    /// Whether it follows from nothing and nothing follows from it, as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// For people: nothing where it stands alone.
    pub(super) fn lines(&self) -> Vec<String> {
        tree::lines(self)
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        tree::json(self)
    }
}

impl Told {
    fn link(&self, id: &EventId) -> Link {
        Link {
            parent: self.parent.clone(),
            rule: self.rule.clone(),
            child_service: self.own.to_string(),
            child_id: id.to_string(),
            total: 1,
        }
    }
}

/// What an event follows from at once, the first one first.
async fn parents(connection: &mut PgConnection, child: &Place) -> Result<Vec<Link>, sqlx::Error> {
    sqlx::query_as(
        "select event_id as id, service, rule, child_id, child_service, count(*) over () as total
         from followed where child_id = $1 and child_service = $2 order by at, event_id limit $3",
    )
    .bind(&child.id)
    .bind(&child.service)
    .bind(MOST_PARENTS)
    .fetch_all(connection)
    .await
}

/// What follows from these events at once; of each a bounded number, `wanted` ids among them.
async fn children(
    connection: &mut PgConnection,
    parents: &[Place],
    wanted: &[String],
) -> Result<Vec<Link>, sqlx::Error> {
    let ids: Vec<&str> = parents.iter().map(|place| place.id.as_str()).collect();
    let services: Vec<&str> = parents.iter().map(|place| place.service.as_str()).collect();
    sqlx::query_as(
        "select own.event_id as id, own.service, rule, child_id, child_service, total
         from unnest($1::text[], $2::text[]) as own(event_id, service), lateral (
             select rule, child_id, child_service, at, count(*) over () as total from followed f
             where f.event_id = own.event_id and f.service = own.service
             order by child_id = any($3) desc, at, rule, child_id limit $4
         ) as those order by at, rule, child_id",
    )
    .bind(&ids)
    .bind(&services)
    .bind(wanted)
    .bind(MOST_CHILDREN)
    .fetch_all(connection)
    .await
}

/// How these events ended, of those that have.
async fn standing(
    connection: &mut PgConnection,
    places: &BTreeSet<Place>,
) -> Result<Vec<Standing>, sqlx::Error> {
    let ids: Vec<&str> = places.iter().map(|place| place.id.as_str()).collect();
    sqlx::query_as(
        "select event_id as id, service, state, code, trace_id,
             (extract(epoch from finished_at) * 1000)::bigint as finished_ms
         from results where event_id = any($1)",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await
}
