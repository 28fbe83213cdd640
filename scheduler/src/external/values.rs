//! The values of a metric: one a service, as a list or as the table that `kubectl get` prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use shared::subject::Service;
use shared::telemetry::propagation::rfc3339;

use super::accept::Wanted;
use super::discovery::LIST_KIND;
use super::selector::{Labels, Selector};
use super::{GROUP, VERSION};
use crate::board::Board;
use crate::figures::{Figure, Unknown};

/// The one label of a metric.
const LABEL: &str = "service";
/// Largest value in thousandths: what Kubernetes' own arithmetic holds in 64 bits.
const MOST: u64 = i64::MAX as u64;

/// The value of a metric for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    service: Service,
    figure: Figure,
    value: String,
    at: String,
}

/// The values for every service that the selector chooses. When one of them is not known none is given: whoever asks adds
/// them up, and a sum without it would be too small.
pub fn select(board: &Board, figure: Figure, selector: &Selector) -> Result<Vec<Item>, Unknown> {
    let services = board.services().into_iter();
    let chosen: Vec<_> = services
        .filter(|service| selector.holds(&labels(service)))
        .collect();
    if chosen.is_empty() {
        // No error by the rules of the API, and no autoscaler scales down on it: somebody has to hear of it.
        tracing::warn!(
            metric = figure.name(),
            ?selector,
            "asked for the figures of no service of this fleet: WEIR_SERVICES, or the selector of an autoscaler"
        );
    }
    chosen
        .into_iter()
        .filter_map(|service| {
            let figures = board.figures(&service)?;
            Some(figures.and_then(|figures| {
                Ok(Item {
                    figure,
                    value: quantity(figures.milli(figure)?),
                    at: seconds(figures.at),
                    service,
                })
            }))
        })
        .collect()
}

/// The answer in the best form that is wanted; `None` when no form that there is.
pub fn answer(items: &[Item], wanted: &[Wanted<'_>]) -> Option<Value> {
    wanted.iter().find_map(|wanted| {
        if *wanted == Wanted::PLAIN {
            return Some(list(items));
        }
        let version = wanted
            .version
            .filter(|version| ["v1", "v1beta1"].contains(version))?;
        let ours = wanted.group == Some("meta.k8s.io") && wanted.kind == Some("Table");
        ours.then(|| table(items, version))
    })
}

fn list(items: &[Item]) -> Value {
    let items: Vec<_> = items
        .iter()
        .map(|item| {
            json!({
                "metricName": item.figure.name(),
                "metricLabels": labels(&item.service),
                "timestamp": item.at,
                "value": item.value,
            })
        })
        .collect();
    json!({"kind": LIST_KIND, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items})
}

fn table(items: &[Item], version: &str) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            let name = item.service.as_str();
            json!({
                "cells": [name, item.value, item.at],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": {"name": name, "creationTimestamp": null},
                },
            })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": {},
        "columnDefinitions": [
            column("Service", "name", "The service that the value is of."),
            column("Value", "", "The value, as a quantity."),
            column("Observed", "", "When it was read."),
        ],
        "rows": rows,
    })
}

fn labels(service: &Service) -> Labels {
    Labels::from([(LABEL.to_owned(), service.to_string())])
}

/// A quantity in its one form: whole numbers without a suffix, others in thousandths.
fn quantity(milli: u64) -> String {
    let milli = milli.min(MOST);
    if milli.is_multiple_of(1_000) {
        (milli / 1_000).to_string()
    } else {
        format!("{milli}m")
    }
}

/// A time to the second, as Kubernetes writes times.
fn seconds(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_times_are_in_the_form_of_kubernetes() {
        let written = [0, 1, 999, 1_000, 1_500, 1_234_500, u64::MAX].map(quantity);
        let form = [
            "0",
            "1m",
            "999m",
            "1",
            "1500m",
            "1234500m",
            "9223372036854775807m",
        ];
        assert_eq!(written, form);
        assert_eq!(
            seconds(UNIX_EPOCH + Duration::from_millis(1_999)),
            "1970-01-01T00:00:01Z"
        );
    }
}
