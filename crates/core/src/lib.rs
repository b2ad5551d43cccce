//! reseal-core
