//! This host as resource attributes: `host.*` and `os.*`.

use crate::model::resource::Value;
use crate::semconv::resource as name;

/// This host.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Host {
    /// `host.name`.
    pub name: Option<String>,
    /// `host.id`: the machine id.
    pub id: Option<String>,
    /// `host.arch`.
    pub arch: Option<&'static str>,
    /// `os.type`: `linux`, `windows`.
    pub os_type: Option<&'static str>,
    /// `os.name`.
    pub os_name: Option<String>,
    /// `os.version`.
    pub os_version: Option<String>,
    /// `os.description`.
    pub os_description: Option<String>,
}

impl Host {
    /// Its attributes, sorted by name.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&'static str, Value)> {
        let texts = [
            (name::HOST_ARCH, self.arch),
            (name::HOST_ID, self.id.as_deref()),
            (name::HOST_NAME, self.name.as_deref()),
            (name::OS_DESCRIPTION, self.os_description.as_deref()),
            (name::OS_NAME, self.os_name.as_deref()),
            (name::OS_TYPE, self.os_type),
            (name::OS_VERSION, self.os_version.as_deref()),
        ];
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::Text(text?.into()))))
            .collect()
    }
}
