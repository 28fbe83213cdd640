//! Form-encoded bodies: how they are told from others.

/// The media type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Whether a media type is a form, parameters ignored.
pub fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(FORM)
}

/// Whether a body is a form, told by its bytes alone: the media type is not signed, and whoever sends a signed body again
/// chooses it. No form is JSON: JSON with a `=` has it in a text, whose quotes no form has.
pub fn looks_so(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    let fits = |b: &u8| b.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(b);
    body.first() != Some(&b'[') && body.iter().all(fits) && body.contains(&b'=')
}
