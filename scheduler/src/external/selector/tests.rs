use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect()
}

/// What `labels.Parse` and `Matches` of k8s.io/apimachinery 0.37.2 say of these texts: no selector, or one that holds or
/// does not hold for each of three sets of labels. Some are written by hand, most are words of the grammar in any order.
#[test]
fn selectors_are_read_as_kubernetes_reads_them() {
    let vectors: Vec<(String, Option<[bool; 3]>)> =
        serde_json::from_str(include_str!("kubernetes.json")).unwrap();
    let things = [
        labels(&[("service", "github")]),
        labels(&[("service", "slack"), ("in", "a"), ("n", "7")]),
        labels(&[]),
    ];
    assert!(vectors.len() > 200, "{}", vectors.len());
    for (text, expected) in vectors {
        let read = Selector::parse(&text).ok();
        let held = read.map(|selector| things.each_ref().map(|labels| selector.holds(labels)));
        assert_eq!(held, expected, "{text:?}");
    }
}

#[test]
fn a_bad_selector_is_told_by_what_is_wrong_with_it() {
    for (text, told) in [
        ("service==github,", "found the end, expected a key"),
        ("service in github", "found \"github\", expected '('"),
        ("service in (github", "found the end, expected ',' or ')'"),
        ("service ! github", "found '!', expected an operator"),
        ("service=git hub", "found \"hub\", expected ',' or the end"),
        ("-service", "\"-service\" is no key"),
        ("a/b/c", "is no key"),
        ("service=_", "is no value"),
        ("service>many", "is no whole number"),
        ("service=\u{0}", "control character"),
    ] {
        let error = Selector::parse(text).unwrap_err().to_string();
        assert!(error.contains(told), "{text:?}: {error}");
    }
    let long = format!("service={}", "x".repeat(100_000));
    assert!(Selector::parse(&long).unwrap_err().to_string().len() < 200);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "[a-z0-9=!,()<> /.\u{0}\u{7f}é-]{0,60}|(service|in|notin|[=!,()<>]| ){0,20}|.{0,100}"
    ) {
        match Selector::parse(&text) {
            Ok(selector) => {
                selector.holds(&labels(&[("service", "github")]));
            }
            Err(error) => assert!(error.to_string().len() < 1_000),
        }
    }
}
