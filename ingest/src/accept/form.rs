//! Form-encoded deliveries.

use std::borrow::Cow;

/// Whether a media type is a form.
pub(crate) fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The first value of a field.
pub(super) fn field<'b>(body: &'b [u8], name: &str) -> Option<Cow<'b, str>> {
    form_urlencoded::parse(body)
        .find(|(n, _)| n == name)
        .map(|(_, value)| value)
}
