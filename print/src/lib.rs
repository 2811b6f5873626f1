//! Conntrack and route events as lines: the text that `conntrack -E` and `ip monitor route` print, and JSON.

pub mod conntrack;
pub mod gap;
pub mod json;
pub mod local_time;
pub mod route;
pub mod text;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: nlring_testing::allocator::Counting = nlring_testing::allocator::Counting;
