//! reseal-server
