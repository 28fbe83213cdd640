//! Look-ups of some weeks, made up.

use crate::random::{Random, id};

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;
/// A Wednesday, so that the last four days of a fortnight are a weekend, a Monday and a Tuesday.
pub(crate) const START: u64 = 20_761 * DAY;

/// Something is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) at_ms: u64,
    pub(crate) key: u64,
    pub(crate) actor: u64,
    pub(crate) repository: u64,
}

impl Look {
    /// What fetching it takes: 80 to 800 ms, always the same for a key.
    pub(crate) fn fetch_ms(&self) -> u32 {
        80 + (id(9, self.key, 0) % 720) as u32
    }
}

/// A company: people and their sessions, webhooks of what they do, jobs that run by the clock, and what fits no pattern.
pub(crate) struct Company {
    pub(crate) days: u64,
    pub(crate) people: u64,
    pub(crate) repositories: u64,
}

impl Company {
    pub(crate) fn looks(&self, seed: u64) -> Vec<Look> {
        let mut day = Days {
            random: Random::new(seed),
            looks: Vec::new(),
            company: self,
        };
        for number in 0..self.days {
            day.people(number);
            day.jobs(number);
        }
        let noise = day.looks.len() as u64 / 6;
        day.noise(noise);
        sorted(day.looks, self.days)
    }
}

/// As many look-ups that have nothing to do with each other.
pub(crate) fn random(seed: u64, days: u64, count: u64) -> Vec<Look> {
    let mut random = Random::new(seed);
    let looks = (0..count).map(|_| Look {
        at_ms: START + random.below(days * DAY),
        key: id(20, 0, random.below(50_000)),
        actor: random.below(60),
        repository: random.below(120),
    });
    sorted(looks.collect(), days)
}

/// Keys that are asked for a few times within minutes, and never again: what a frequency falls for.
pub(crate) fn bursts(seed: u64, days: u64, count: u64) -> Vec<Look> {
    let mut random = Random::new(seed);
    let mut looks = Vec::new();
    while (looks.len() as u64) < count {
        let (begin, key) = (START + random.below(days * DAY), random.next());
        let (actor, repository) = (random.below(60), random.below(120));
        for _ in 0..10 + random.below(10) {
            looks.push(Look {
                at_ms: begin + random.below(10 * MINUTE),
                key,
                actor,
                repository,
            });
        }
    }
    sorted(looks, days)
}

/// The first until a day, the second from then on.
pub(crate) fn turning(first: &[Look], second: &[Look], day: u64) -> Vec<Look> {
    let turn = START + day * DAY;
    let before = first.iter().take_while(|look| look.at_ms < turn);
    let after = second.iter().skip_while(|look| look.at_ms < turn);
    before.chain(after).copied().collect()
}

fn sorted(mut looks: Vec<Look>, days: u64) -> Vec<Look> {
    looks.retain(|look| look.at_ms < START + days * DAY);
    looks.sort_by_key(|look| (look.at_ms, look.key));
    looks
}

/// Kinds of keys. A repository has one of the first, and one a pull request of the second.
const OF_REPOSITORY: [u64; 6] = [0, 1, 2, 3, 4, 5];
const OF_PULL_REQUEST: [u64; 4] = [10, 11, 12, 13];
/// Where an id stands for a person instead.
const PERSONAL: u64 = 30;

struct Days<'a> {
    random: Random,
    looks: Vec<Look>,
    company: &'a Company,
}

impl Days<'_> {
    fn ask(&mut self, at_ms: u64, key: u64, actor: u64, repository: u64) {
        self.looks.push(Look {
            at_ms,
            key,
            actor,
            repository,
        });
    }

    /// What people do on a day: each begins at an hour of their own, looks at what is theirs, and comes back now and then.
    fn people(&mut self, day: u64) {
        let weekend = (START / DAY + day + 3) % 7 >= 5;
        for person in 0..self.company.people {
            let midnight = START + day * DAY;
            let habit = 7 * HOUR + id(1, person, 0) % (3 * HOUR);
            if weekend {
                if self.random.chance(0.1) {
                    let at = midnight + 10 * HOUR + self.random.below(8 * HOUR);
                    self.session(at, person);
                }
                continue;
            }
            if self.random.chance(0.08) {
                // Not at work.
                continue;
            }
            let begin =
                (midnight + habit).saturating_add_signed((self.random.normal() * 6.0 * MINUTE as f64) as i64);
            self.morning(begin, person);
            let mut at = begin + self.random.below(20 * MINUTE);
            while at < midnight + habit + 9 * HOUR {
                self.session(at, person);
                at += 10 * MINUTE + self.random.after(70.0 * MINUTE as f64) as u64;
            }
        }
    }

    /// What is looked at first: the person's own lists.
    fn morning(&mut self, begin: u64, person: u64) {
        let mut at = begin;
        for list in 0..5 {
            if self.random.chance(0.9) {
                self.ask(at, id(PERSONAL, person, list), person, id(2, person, 0));
            }
            at += 2_000 + self.random.after(20_000.0) as u64;
        }
    }

    /// A person looks at a repository and some of its pull requests, and sometimes changes it.
    fn session(&mut self, begin: u64, person: u64) {
        let home = self.random.below(3);
        let repository = if self.random.chance(0.7) {
            id(3, person, home) % self.company.repositories
        } else {
            self.random.skewed(self.company.repositories)
        };
        let mut at = begin;
        for kind in [0, 1, 2] {
            if self.random.chance(0.9) {
                self.ask(at, id(kind, repository, 0), person, repository);
            }
            at += 1_000 + self.random.after(12_000.0) as u64;
        }
        for _ in 0..=self.random.below(4) {
            let number = self.pull_request(at);
            for kind in OF_PULL_REQUEST {
                if self.random.chance(0.8) {
                    self.ask(at, id(kind, repository, number), person, repository);
                }
                at += 3_000 + self.random.after(25_000.0) as u64;
            }
            if self.random.chance(0.3) {
                self.push(at, repository, number);
            }
            at += self.random.after(90_000.0) as u64;
        }
    }

    /// A webhook comes, and what handles it asks for everything at once.
    fn push(&mut self, at: u64, repository: u64, number: u64) {
        let robot = id(4, repository, 0);
        for (step, kind) in OF_REPOSITORY.into_iter().enumerate() {
            self.ask(at + step as u64 * 150, id(kind, repository, 0), robot, repository);
        }
        for (step, kind) in [10, 11].into_iter().enumerate() {
            self.ask(
                at + 1_000 + step as u64 * 150,
                id(kind, repository, number),
                robot,
                repository,
            );
        }
        if self.random.chance(0.6) {
            let reviewer = id(8, repository, self.random.below(3)) % self.company.people;
            let mut at = at + MINUTE + self.random.after(4.0 * MINUTE as f64) as u64;
            for kind in OF_PULL_REQUEST {
                self.ask(at, id(kind, repository, number), reviewer, repository);
                at += 3_000 + self.random.after(25_000.0) as u64;
            }
        }
    }

    /// One of the pull requests that are open: each is new on a day, and asked for less from day to day.
    fn pull_request(&mut self, at: u64) -> u64 {
        let today = at / DAY;
        let age = self.random.skewed(6);
        (today - age) * 10 + self.random.skewed(3)
    }

    /// What runs by the clock: nightly in each repository, hourly in a third, on Mondays in a third, every ten minutes in a few.
    fn jobs(&mut self, day: u64) {
        let midnight = START + day * DAY;
        let monday = (START / DAY + day + 3).is_multiple_of(7);
        for repository in 0..self.company.repositories {
            let robot = id(5, repository, 0);
            let mut job = |name: u64, at: u64, keys: u64, random: &mut Random| {
                let mut at = at + random.below(2 * MINUTE);
                for key in 0..keys {
                    let ask = Look {
                        at_ms: at,
                        key: id(name, repository, key),
                        actor: robot,
                        repository,
                    };
                    self.looks.push(ask);
                    at += 200 + random.after(500.0) as u64;
                }
            };
            let minute = id(6, repository, 0) % 60 * MINUTE;
            let night = id(7, 0, 0) % 5 * HOUR;
            job(40, midnight + night + minute, 6, &mut self.random);
            if monday && repository.is_multiple_of(3) {
                job(41, midnight + 6 * HOUR + minute, 10, &mut self.random);
            }
            if repository % 3 == 1 {
                for hour in 0..24 {
                    job(42, midnight + hour * HOUR + minute, 1, &mut self.random);
                }
            }
            if repository.is_multiple_of(12) {
                for tenth in 0..24 * 6 {
                    job(43, midnight + tenth * 10 * MINUTE, 1, &mut self.random);
                }
            }
        }
    }

    /// What fits no pattern, by day more than by night.
    fn noise(&mut self, count: u64) {
        for _ in 0..count {
            let day = self.random.below(self.company.days) * DAY;
            let hour = (13.0 + 4.0 * self.random.normal()).rem_euclid(24.0);
            let at = START + day + (hour * HOUR as f64) as u64;
            let key = id(50, 0, self.random.below(30_000));
            let (person, repository) = (
                self.random.below(self.company.people),
                self.random.below(self.company.repositories),
            );
            self.ask(at, key, person, repository);
        }
    }
}
