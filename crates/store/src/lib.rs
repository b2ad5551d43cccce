//! reseal-store
