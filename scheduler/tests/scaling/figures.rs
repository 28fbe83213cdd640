//! The figures over HTTP, Prometheus and KEDA.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::StreamExt;
use shared::breaker::{Now, Record};
use shared::servers::{Nats, NatsOptions};
use shared::subject::Service;
use shared::{connect, topology};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::stage::{Replica, SOON, eventually, fleet, publish, say, trigger};

/// Works off what waits, one message at a time, each in `takes`.
fn work(js: &jetstream::Context, takes: Duration) -> JoinHandle<()> {
    let js = js.clone();
    tokio::spawn(async move {
        let consumer: PullConsumer = js
            .get_consumer_from_stream("normal", "WEIR_github")
            .await
            .unwrap();
        loop {
            let mut batch = consumer.fetch().max_messages(1).messages().await.unwrap();
            while let Some(Ok(message)) = batch.next().await {
                sleep(takes).await;
                message.ack().await.unwrap();
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_called_for_as_load_and_quota_have_it() {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let fleet = fleet(&nats.url(), &[]);
    let (_, js) = connect::nats(&fleet, "test").await.unwrap();
    let replica = Replica::start(&fleet).await;
    eventually("figures", SOON, || async {
        replica.scaling("github").await.is_some()
    })
    .await;
    assert_eq!(replica.active("github").await, Ok(false));
    assert_eq!(replica.metric("github", "weir_worker_demand").await, Ok(0.0));
    assert_eq!(replica.metric("github", "weir_oldest_age_seconds").await, Ok(0.0));

    // Waking from nothing: told without being asked.
    let stream = replica
        .keda
        .clone()
        .stream_is_active(trigger(&[("service", "github")]))
        .await;
    let mut stream = stream.unwrap().into_inner();
    assert!(!stream.message().await.unwrap().unwrap().result);
    publish(&js, 300).await;
    let woken = timeout(SOON, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(woken.result);

    // No worker ever said what it does: one is needed, and more nobody can tell.
    eventually("all are seen", SOON, || async {
        replica
            .scaling("github")
            .await
            .is_some_and(|known| known.queue_depth == 300)
    })
    .await;
    let known = replica.scaling("github").await.unwrap();
    assert_eq!((known.worker_demand, known.bound.as_str()), (1.0, "unmeasured"));
    assert_eq!(replica.metric("github", "weir_queue_depth").await, Ok(300.0));
    assert!(replica.metric("github", "weir_oldest_age_seconds").await.unwrap() > 0.0);

    // One that does a single message at a time, 100 ms each: what waits takes 30 s, so half a worker more than what
    // comes needs for it to be gone within a minute.
    say(&js, &fleet, 1, "100 per second").await;
    let worker = work(&js, Duration::from_millis(100));
    eventually("what an attempt takes", SOON, || async {
        let known = replica.scaling("github").await;
        let time = known.and_then(|known| known.service_time_seconds);
        time.is_some_and(|time| (0.05..0.3).contains(&time))
    })
    .await;
    // Arrivals of the burst count for a while: more than one, and no more than they and the backlog call for.
    eventually("a demand", SOON, || async {
        let known = replica.scaling("github").await.unwrap();
        known.bound == "load" && (1.0..50.0).contains(&known.worker_demand)
    })
    .await;
    // No upstream is in service: one worker finds out when that changes.
    publish(&js, 200).await;
    let breakers = topology::breakers_bucket(&js, &fleet.streams).await.unwrap();
    let at = shared::telemetry::propagation::millis(std::time::SystemTime::now());
    let out = Record::new("https://a.example", 1, 1);
    let (out, back) = (
        out.claimed(Duration::from_mins(10), Now { at, by: "w" }),
        out.closed(Now { at, by: "w" }),
    );
    breakers.put("github.a", out.bytes().into()).await.unwrap();
    eventually("out of service", SOON, || async {
        let known = replica.scaling("github").await.unwrap();
        known.worker_demand <= 1.0 && known.bound == "out_of_service"
    })
    .await;
    // What nobody of ours writes hides nothing.
    for odd in [
        "$KV.weir_breakers.a:b",
        "$KV.weir_breakers.github.a:b",
        "$KV.weir_breakers.x.y",
    ] {
        js.publish(odd, "nonsense".into()).await.unwrap().await.unwrap();
    }
    breakers.put("github.a", back.bytes().into()).await.unwrap();
    eventually("in service", SOON, || async {
        let known = replica.scaling("github").await.unwrap();
        known.worker_demand > 1.0 && known.bound == "load"
    })
    .await;
    // The limits are changed: nobody is called for to wait.
    say(&js, &fleet, 1, "1 per minute, burst 1").await;
    eventually("quota", SOON, || async {
        let known = replica.scaling("github").await.unwrap();
        known.worker_demand <= 1.0 && known.bound == "quota"
    })
    .await;
    // Somebody overwrites what the workers say: how many are useful is not known any more, and what waits is.
    let limits = topology::limits_bucket(&js, &fleet.streams).await.unwrap();
    let github = Service::new("github").unwrap();
    limits.put(github.limits_now(), "nonsense".into()).await.unwrap();
    eventually("no demand is told", SOON, || async {
        replica.metric("github", "weir_worker_demand").await == Err(Code::Unavailable)
    })
    .await;
    assert!(replica.metric("github", "weir_queue_depth").await.unwrap() > 0.0);
    assert_eq!(replica.active("github").await, Ok(true));
    say(&js, &fleet, 1, "1 per minute, burst 1").await;
    eventually("a demand again", SOON, || async {
        replica.metric("github", "weir_worker_demand").await == Ok(1.0)
    })
    .await;
    let metrics = replica.get("/metrics").await.1;
    for line in [
        "weir_worker_demand{service=\"github\"} 1.0\n",
        "weir_worker_demand{service=\"http\"} 0.0\n",
        "weir_queue_arrivals_per_second{service=\"http\"} 0.0\n",
        "weir_service_time_seconds{service=\"github\"} ",
        "weir_workers_recommended{service=\"http\"} 2.0\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    worker.abort();
    replica.stop().await;
    assert!(stream.message().await.unwrap().is_none(), "streams end in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_an_error_and_never_zero_or_false() {
    let scratch = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let fleet = fleet(&nats.url(), &[]);
    let (_, js) = connect::nats(&fleet, "test").await.unwrap();
    let replica = Replica::start(&fleet).await;
    let refused = |metadata: &'static [(&'static str, &'static str)]| {
        let mut keda = replica.keda.clone();
        async move { keda.get_metric_spec(trigger(metadata)).await.unwrap_err().code() }
    };
    eventually("a listener", SOON, || async {
        replica.active("github").await != Err(Code::Unavailable)
    })
    .await;
    assert_eq!(refused(&[]).await, Code::InvalidArgument);
    assert_eq!(refused(&[("service", "jira")]).await, Code::NotFound);
    assert_eq!(replica.active("jira").await, Err(Code::NotFound));
    let mut keda = replica.keda.clone();
    let spec = keda
        .get_metric_spec(trigger(&[("service", "github"), ("target", "0.5")]))
        .await;
    let spec = spec.unwrap().into_inner().metric_specs.remove(0);
    assert_eq!(
        (
            spec.metric_name.as_str(),
            spec.target_size,
            spec.target_size_float
        ),
        ("weir_worker_demand", 1, 0.5)
    );
    publish(&js, 3).await;
    eventually("three", SOON, || async {
        replica.metric("github", "weir_queue_depth").await == Ok(3.0)
    })
    .await;

    // A consumer is missing: unknown of this service, known of the other.
    js.delete_consumer_from_stream("low", "WEIR_github")
        .await
        .unwrap();
    let gone = async || replica.active("github").await == Err(Code::Unavailable);
    eventually("unknown", SOON, gone).await;
    assert_eq!(replica.active("http").await, Ok(false));
    let (_, body) = replica.get("/api/scaling").await;
    assert!(body.contains("the figures of github are not known"), "{body}");
    assert!(
        !replica
            .get("/metrics")
            .await
            .1
            .contains("weir_worker_demand{service=\"github\"}")
    );
    // Without workers nobody else makes it again.
    eventually("known again", SOON * 6, || async {
        replica.active("github").await == Ok(true)
    })
    .await;
    let services = [Service::new("github").unwrap()];

    // The stream is made anew while nobody looks, and counts from 1 again.
    let stream = replica
        .keda
        .clone()
        .stream_is_active(trigger(&[("service", "github")]))
        .await;
    let mut stream = stream.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().result);
    js.delete_stream("WEIR_github").await.unwrap();
    topology::ensure(&js, &services, &fleet.streams).await.unwrap();
    publish(&js, 1).await;
    eventually("one", SOON, || async {
        replica.metric("github", "weir_queue_depth").await == Ok(1.0)
    })
    .await;
    // Rates take a few looks more than depths.
    eventually("rates", SOON, || async {
        replica.scaling("github").await.is_some_and(|known| {
            assert!((0.0..50.0).contains(&known.arrivals_per_second), "{known:?}");
            true
        })
    })
    .await;

    nats.kill().await.unwrap();
    eventually("unknown", SOON, || async {
        assert_ne!(replica.active("github").await, Ok(false));
        gone().await
    })
    .await;
    // An open stream says nothing that is not so.
    loop {
        match timeout(SOON, stream.message()).await.unwrap() {
            Ok(Some(told)) => assert!(told.result),
            Ok(None) => panic!("ended as if in order"),
            Err(status) => break assert_eq!(status.code(), Code::Unavailable),
        }
    }
    for metric in [
        "weir_queue_depth",
        "weir_worker_demand",
        "weir_oldest_age_seconds",
    ] {
        assert_eq!(replica.metric("github", metric).await, Err(Code::Unavailable));
    }
    assert_eq!(replica.get("/api/scaling").await.0, 503);
    nats.restart().await.unwrap();
    eventually("known again", SOON * 2, || async {
        replica.active("github").await == Ok(true)
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_a_place_is_free_again_when_one_ends() {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let replica = Replica::start(&fleet(&nats.url(), &[])).await;
    eventually("figures", SOON, || async {
        replica.active("github").await == Ok(false)
    })
    .await;
    // No connection has more than 1,024 of them.
    let others = [replica.another().await, replica.another().await];
    let open = async |n: usize| {
        let mut keda = others[n % 2].clone();
        let asked = keda.stream_is_active(trigger(&[("service", "github")])).await;
        asked.map(tonic::Response::into_inner)
    };
    let mut streams = Vec::new();
    for n in 0..2_000 {
        streams.push(open(n).await.unwrap());
    }
    assert_eq!(open(0).await.unwrap_err().code(), Code::ResourceExhausted);
    // Other calls are answered.
    assert_eq!(replica.active("github").await, Ok(false));
    streams.truncate(1_999);
    eventually("a place", SOON, || async { open(0).await.is_ok() }).await;
    replica.stop().await;
}
