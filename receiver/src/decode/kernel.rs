//! Records of the kernel programs to [`crate::model::netflow`].
