//! Which partitions are to be made and which are to go: pure.

/// A day in seconds.
pub const DAY: i64 = 86_400;

/// A time from one moment up to another, seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: i64,
    /// Its end, which is no part of it.
    pub to: i64,
}

/// A partition that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its name, as SQL takes it.
    pub name: String,
    /// What it holds; without a bound as far as numbers go.
    pub span: Span,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be dropped.
    pub drop: Vec<String>,
    /// To be made, in order.
    pub make: Vec<Span>,
}

/// Plans: what ended before `oldest` goes, and from the day of `now` up to `until` there is no gap. New partitions are
/// `days` long and begin at multiples of that since the epoch, shorter where they meet one of another length: so the length
/// can be changed at any time, and what is there is left as it is until it is old.
pub fn plan(now: i64, oldest: i64, until: i64, days: u16, existing: &[Existing]) -> Plan {
    let width = i64::from(days.max(1)) * DAY;
    let mut plan = Plan {
        drop: existing
            .iter()
            .filter(|part| part.span.to <= oldest)
            .map(|part| part.name.clone())
            .collect(),
        make: Vec::new(),
    };
    let mut at = now.div_euclid(DAY) * DAY;
    while at < until {
        if let Some(there) = existing
            .iter()
            .find(|part| part.span.from <= at && at < part.span.to)
        {
            at = there.span.to;
            continue;
        }
        // At the end of one that is not whole days long, the next begins there.
        let begins = existing
            .iter()
            .map(|part| part.span.from)
            .filter(|from| *from > at);
        let to = (at.div_euclid(width) + 1) * width;
        let to = begins.min().map_or(to, |next| next.min(to));
        // The first one takes the whole of its time, unless another has some of it.
        let from = at.div_euclid(width) * width;
        let ends = existing.iter().map(|part| part.span.to).filter(|end| *end <= at);
        let from = ends.max().map_or(from, |end| end.max(from));
        plan.make.push(Span { from, to });
        at = to;
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(from: i64, to: i64) -> Existing {
        Existing {
            name: format!("d{from}"),
            span: Span {
                from: from * DAY,
                to: to * DAY,
            },
        }
    }

    fn spans(plan: &Plan) -> Vec<(i64, i64)> {
        plan.make
            .iter()
            .map(|span| (span.from / DAY, span.to / DAY))
            .collect()
    }

    #[test]
    fn days_follow_weeks_without_a_gap() {
        let noon = |day: i64| day * DAY + DAY / 2;
        let fresh = plan(noon(100), 0, noon(102), 1, &[]);
        assert_eq!(spans(&fresh), [(100, 101), (101, 102), (102, 103)]);
        // A week that began before goes on until it ends.
        let week = [part(98, 105)];
        assert_eq!(spans(&plan(noon(100), 0, noon(102), 1, &week)), []);
        assert_eq!(
            spans(&plan(noon(104), 0, noon(106), 1, &week)),
            [(105, 106), (106, 107)]
        );
        // Days that end within a week: the week is shorter.
        let days = [part(99, 100), part(100, 101)];
        assert_eq!(
            spans(&plan(noon(100), 0, noon(107), 7, &days)),
            [(101, 105), (105, 112)]
        );
        // A gap before one that is there already.
        let ahead = [part(103, 110)];
        assert_eq!(spans(&plan(noon(101), 0, noon(104), 7, &ahead)), [(98, 103)]);
    }

    #[test]
    fn what_is_wholly_old_goes() {
        let there = [part(80, 87), part(87, 94), part(94, 95)];
        assert_eq!(
            plan(100 * DAY, 94 * DAY, 100 * DAY, 1, &there).drop,
            ["d80", "d87"]
        );
        assert_eq!(plan(100 * DAY, 94 * DAY - 1, 100 * DAY, 1, &there).drop, ["d80"]);
        let unbounded = Existing {
            name: "all".into(),
            span: Span {
                from: i64::MIN,
                to: i64::MAX,
            },
        };
        assert_eq!(
            plan(100 * DAY, 99 * DAY, 200 * DAY, 1, &[unbounded]),
            Plan::default()
        );
    }

    proptest! {
        #[test]
        fn whatever_is_there_no_moment_is_without_a_partition_and_none_has_two(
            now in 10_000_i64..3_000_000, days in 1_u16..32, ahead in 0_i64..40,
            lengths in prop::collection::vec((0_i64..3, 1_i64..9), 0..12),
        ) {
            let mut there = Vec::new();
            let mut day = now / DAY - 5;
            for (gap, length) in lengths {
                there.push(part(day + gap, day + gap + length));
                day += gap + length;
            }
            let until = now + ahead * DAY;
            let made = plan(now, 0, until, days, &there);
            let mut all: Vec<Span> = there.iter().map(|part| part.span).chain(made.make).collect();
            all.sort_by_key(|span| span.from);
            for pair in all.windows(2) {
                prop_assert!(pair[0].to <= pair[1].from, "{:?}", all);
            }
            for moment in (now..until).step_by(DAY as usize / 3) {
                let holders = all.iter().filter(|span| span.from <= moment && moment < span.to);
                prop_assert_eq!(holders.count(), 1, "{}: {:?}", moment, all);
            }
        }
    }
}
