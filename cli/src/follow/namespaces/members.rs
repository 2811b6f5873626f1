//! The followed namespaces, found by their sockets and by their keys.

use std::collections::HashMap;

use nlring::SocketId;
use slab::Slab;

use super::member::Member;
use crate::host::known_namespaces::Key;

/// All members. A member keeps its place until it is removed.
pub struct Members<H> {
    places: Slab<Member<H>>,
    by_socket: HashMap<SocketId, usize>,
    by_namespace: HashMap<Key, usize>,
}

impl<H> Members<H> {
    pub fn new() -> Self {
        Self {
            places: Slab::new(),
            by_socket: HashMap::new(),
            by_namespace: HashMap::new(),
        }
    }

    /// Adds a member for a namespace that has none, and returns its place.
    pub fn add(&mut self, member: Member<H>) -> usize {
        let (socket, namespace) = (member.socket, member.found.key);
        let place = self.places.insert(member);
        self.by_socket.insert(socket, place);
        self.by_namespace.insert(namespace, place);
        place
    }

    pub fn remove(&mut self, place: usize) {
        let member = self.places.remove(place);
        self.by_socket.remove(&member.socket);
        self.by_namespace.remove(&member.found.key);
    }

    pub fn of_socket(&self, socket: SocketId) -> Option<usize> {
        self.by_socket.get(&socket).copied()
    }

    pub fn of_namespace(&self, key: Key) -> Option<usize> {
        self.by_namespace.get(&key).copied()
    }

    pub fn get(&self, place: usize) -> Option<&Member<H>> {
        self.places.get(place)
    }

    pub fn get_mut(&mut self, place: usize) -> Option<&mut Member<H>> {
        self.places.get_mut(place)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member<H>> {
        self.places.iter().map(|(_, member)| member)
    }

    /// All members with their places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Member<H>)> {
        self.places.iter_mut()
    }
}
