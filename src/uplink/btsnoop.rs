//! btsnoop
