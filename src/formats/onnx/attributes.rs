//! Attributes of nodes to be written.

use super::proto::{AttributeProto, AttributeType};

/// An attribute of this kind, without its value.
pub(super) fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        ..AttributeProto::default()
    }
}

/// An attribute that is a whole number.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        i: Some(i),
        ..attribute(name, AttributeType::Int)
    }
}

/// An attribute that is a list of whole numbers.
pub(super) fn ints(name: &str, ints: impl IntoIterator<Item = i64>) -> AttributeProto {
    AttributeProto {
        ints: ints.into_iter().collect(),
        ..attribute(name, AttributeType::Ints)
    }
}

/// An attribute that is a number.
pub(super) fn float(name: &str, f: f64) -> AttributeProto {
    AttributeProto {
        f: Some(f as f32),
        ..attribute(name, AttributeType::Float)
    }
}

/// An attribute that is a text.
pub(super) fn string(name: &str, text: &'static str) -> AttributeProto {
    AttributeProto {
        s: Some(bytes::Bytes::from_static(text.as_bytes())),
        ..attribute(name, AttributeType::String)
    }
}
