//! What the access log costs: `cargo bench -p shared --bench access [-- --only note|bytes|fortnight --accesses 5000000 --a-row 2]`.
//!
//! - `note`: nanoseconds to note an access, alone and from four threads at once, of keys that are known and of more keys than are told.
//! - `bytes`: bytes an access by how it is written and by how many share a row.
//! - `fortnight`: the table of a fortnight by how many accesses share a row: its bytes, the time to read all of it back, and to
//!   put the rows of a day together.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

mod load;
mod table;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use shared::access::pack::{MOST, pack};
use shared::access::{Access, AccessMetrics, Digest, Notes, Share};
use shared::subject::Service;

use load::Load;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn github() -> Service {
    Service::new("github").unwrap()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Nobody writes: what is held is replaced by a new one before it is full.
fn note() {
    const ROUND: usize = 60_000;
    for (threads, keys) in [(1, 1_000), (4, 1_000), (1, ROUND)] {
        let mut load = Load::new(keys);
        let accesses: Vec<(Digest, Access)> = (0..ROUND)
            .map(|n| {
                let at = now_ms() + n as u64 / 10;
                if keys == ROUND {
                    load.fresh(n, at)
                } else {
                    load.next(at)
                }
            })
            .collect();
        let mut spent = 0.0;
        let rounds = 20;
        for _ in 0..rounds {
            let notes = Notes::new(Share::ALL, &[github()], AccessMetrics::default());
            let start = Instant::now();
            std::thread::scope(|scope| {
                for part in accesses.chunks(ROUND.div_ceil(threads)) {
                    let notes = &notes;
                    scope.spawn(move || {
                        let service = github();
                        for (digest, access) in part {
                            notes.note(&service, *digest, *access, || Some(load::what()));
                        }
                    });
                }
            });
            spent += start.elapsed().as_secs_f64();
        }
        println!(
            "note: {threads} threads, {keys} keys: {:.0} ns an access",
            spent * 1e9 / f64::from(rounds) / ROUND as f64
        );
    }
}

#[derive(Serialize)]
struct Plain(u64, u64, Option<u64>, Option<u64>, u8, Option<u32>);

fn bytes() {
    println!("bytes an access: fixed columns 33; then by accesses a row");
    for many in [1, 2, 20, 200, 2_000, MOST] {
        let mut load = Load::new(20_000);
        let (mut msgpack, mut zstded, mut packed) = (0, 0, 0);
        let rows = 200_usize.div_ceil(many.div_ceil(100));
        let mut spent = 0.0;
        for row in 0..rows {
            let at = now_ms() + row as u64 * 5_000;
            let accesses: Vec<Access> = (0..many)
                .map(|n| load.next(at + n as u64 * 5_000 / many as u64).1)
                .collect();
            let plain = |a: &Access| Plain(a.at_ms, a.key, a.actor, a.repository, a.found as u8, a.fetch_ms);
            let plain: Vec<Plain> = accesses.iter().map(plain).collect();
            let plain = rmp_serde::to_vec(&plain).unwrap();
            msgpack += plain.len();
            zstded += zstd::bulk::compress(&plain, 3).unwrap().len();
            let start = Instant::now();
            packed += pack(&accesses).0.len();
            spent += start.elapsed().as_secs_f64();
        }
        let each = |bytes: usize| bytes as f64 / (many * rows) as f64;
        println!(
            "  {many:>5} a row: msgpack {:.1}, msgpack and zstd {:.1}, packed {:.1} ({:.0} ns)",
            each(msgpack),
            each(zstded),
            each(packed),
            spent * 1e9 / (many * rows) as f64
        );
    }
}

#[tokio::main]
async fn main() {
    let accesses = argument("--accesses").map_or(5_000_000, |text| text.parse().unwrap());
    let only = argument("--only");
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("note") {
        note();
    }
    if wanted("bytes") {
        bytes();
    }
    if wanted("fortnight") {
        for a_row in argument("--a-row").map_or(vec![8_192, 200, 20, 2], |text| vec![text.parse().unwrap()]) {
            table::fortnight(accesses, a_row).await;
        }
    }
}
