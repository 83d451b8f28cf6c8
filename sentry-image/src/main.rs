//! The sentry as a freestanding image.
#![no_std]
#![no_main]
