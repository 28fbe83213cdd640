//! Who may publish events.

pub use shared::bearer::{MAX_NAME, NotAllowed, Token, Tokens};

use crate::error::{Code, Refusal};

impl From<NotAllowed> for Refusal {
    fn from(why: NotAllowed) -> Self {
        let code = match &why {
            NotAllowed::Missing => Code::TokenMissing,
            NotAllowed::Unknown => Code::TokenUnknown,
            NotAllowed::OtherService(..) => Code::ServiceNotAllowed,
        };
        Self::new(code, why.to_string())
    }
}
