//! reseal-jose
