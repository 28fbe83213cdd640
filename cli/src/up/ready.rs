//! Whether a service says that it is ready.

use std::time::Duration;

use crate::terminal;

/// How long a service may take from its start until it is ready: the first start makes streams and tables.
pub(super) const WITHIN: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `<url>/health/ready` answers 200; otherwise what it said last.
pub(super) async fn wait(url: &str) -> Result<(), String> {
    let url = format!("{url}/health/ready");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let mut last = String::new();
    let asked = async {
        loop {
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let ready = tokio::time::timeout(WITHIN, asked).await;
    ready.map_err(|_| {
        format!(
            "was not ready within {} s: {}",
            WITHIN.as_secs(),
            terminal::clean(&last, 400)
        )
    })
}
