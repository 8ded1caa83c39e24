//! Whose telemetry it is.

use std::sync::Arc;

/// The attributes of one OTel resource, sorted by key; equal resources are grouped into one `Resource` of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Resource {
    /// Attribute name and value; names come from [`crate::semconv`].
    pub attributes: Vec<(&'static str, Value)>,
    /// Attributes whose names are only known at run time (`OTEL_RESOURCE_ATTRIBUTES`).
    pub extra: Vec<(String, String)>,
}

/// A resource attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Text.
    Text(Arc<str>),
    /// A number.
    Int(i64),
    /// A list of texts.
    List(Vec<Arc<str>>),
}

/// Shared, because many records have the same resource.
pub type ResourceRef = Arc<Resource>;
