//! Form-encoded deliveries.

use std::borrow::Cow;

pub(crate) use shared::form::is_form;
pub(super) use shared::form::{FORM, looks_so};

/// The first value of a field.
pub(super) fn field<'b>(body: &'b [u8], name: &str) -> Option<Cow<'b, str>> {
    form_urlencoded::parse(body)
        .find(|(n, _)| n == name)
        .map(|(_, value)| value)
}
