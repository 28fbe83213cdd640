//! The one engine that all templates run on: nothing in it but what is put in here.

use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, filters, tests};

use super::{DEPTH, FUEL, filters as own};

pub(super) static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    // Errors say what it is that is not there.
    engine.set_debug(true);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(DEPTH);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.add_filter("base64", own::base64);
    engine.add_filter("join", own::join);
    engine.add_filter("json", own::json);
    engine.add_filter("lines", own::lines);
    engine.add_filter("replace", own::replace);
    engine.add_filter("split", own::split);
    engine.add_filter("truncate", own::truncate);
    engine.add_filter("default", filters::default);
    engine.add_filter("first", filters::first);
    engine.add_filter("int", filters::int);
    engine.add_filter("items", filters::items);
    engine.add_filter("last", filters::last);
    engine.add_filter("length", filters::length);
    engine.add_filter("lower", filters::lower);
    engine.add_filter("map", filters::map);
    engine.add_filter("reject", filters::reject);
    engine.add_filter("rejectattr", filters::rejectattr);
    engine.add_filter("select", filters::select);
    engine.add_filter("selectattr", filters::selectattr);
    engine.add_filter("sort", filters::sort);
    engine.add_filter("trim", filters::trim);
    engine.add_filter("upper", filters::upper);
    engine.add_test("boolean", tests::is_boolean);
    engine.add_test("defined", tests::is_defined);
    engine.add_test("endingwith", tests::is_endingwith);
    engine.add_test("eq", tests::is_eq);
    engine.add_test("false", tests::is_false);
    engine.add_test("ge", tests::is_ge);
    engine.add_test("gt", tests::is_gt);
    engine.add_test("in", own::is_in);
    engine.add_test("le", tests::is_le);
    engine.add_test("lt", tests::is_lt);
    engine.add_test("mapping", tests::is_mapping);
    engine.add_test("ne", tests::is_ne);
    engine.add_test("none", tests::is_none);
    engine.add_test("number", tests::is_number);
    engine.add_test("sequence", tests::is_sequence);
    engine.add_test("startingwith", tests::is_startingwith);
    engine.add_test("string", tests::is_string);
    engine.add_test("true", tests::is_true);
    engine.add_test("undefined", tests::is_undefined);
    engine
});

/// The filters that templates may use.
pub(super) const FILTERS: [&str; 22] = [
    "base64",
    "default",
    "first",
    "int",
    "items",
    "join",
    "json",
    "last",
    "length",
    "lines",
    "lower",
    "map",
    "reject",
    "rejectattr",
    "replace",
    "select",
    "selectattr",
    "sort",
    "split",
    "trim",
    "truncate",
    "upper",
];

/// The tests that templates may use.
pub(super) const TESTS: [&str; 19] = [
    "boolean",
    "defined",
    "endingwith",
    "eq",
    "false",
    "ge",
    "gt",
    "in",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];
