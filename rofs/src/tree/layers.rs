//! Layers, applied one over the other as container runtimes do: what is replaced, what is whited out, and that no
//! path leads out of the root.

use super::{Kind, Meta, Node, NodeId, Tree};
use crate::failure::{Failure, shown};
use std::collections::BTreeMap;

/// How many symbolic links a path may lead through, as in Linux.
const MAX_LINKS: u32 = 40;

/// A tree that layers are applied to.
#[derive(Debug)]
pub struct Layers {
    tree: Tree,
    layer: u32,
}

impl Default for Layers {
    fn default() -> Self {
        Self::new()
    }
}

/// The components of a path, without empty ones, "." and "..". A ".." takes the component before it, and none at the
/// root: nothing leads out.
pub fn clean_path(path: &[u8]) -> Vec<&[u8]> {
    let mut out: Vec<&[u8]> = Vec::new();
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            name => out.push(name),
        }
    }
    out
}

/// What directories are like that a layer does not describe.
fn unnamed_directory() -> Node {
    Node { meta: Meta { mode: 0o755, ..Meta::default() }, kind: Kind::Directory(BTreeMap::new()) }
}

impl Layers {
    /// A root directory, and no layer yet.
    pub fn new() -> Self {
        Self { tree: Tree::new(unnamed_directory().meta), layer: 0 }
    }

    /// Whatever comes now belongs to a further layer.
    pub fn begin_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
    }

    /// The tree as it is now.
    pub fn into_tree(self) -> Tree {
        self.tree
    }

    /// Puts a file at `path`. A directory over a directory changes its metadata; anything else replaces what is there.
    ///
    /// # Errors
    /// [`Failure::Input`] for a path that cannot be.
    pub fn put(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<NodeId, Failure> {
        let components = clean_path(path);
        let is_directory = matches!(kind, Kind::Directory(_));
        let Some((name, parents)) = components.split_last() else {
            if !is_directory {
                return Err(bad(path, "the root can only be a directory"));
            }
            self.set_meta(Tree::ROOT, meta);
            return Ok(Tree::ROOT);
        };
        let dir = self.directory(path, parents)?;
        if is_directory
            && let Some(existing) = self.tree.lookup(dir, name)
            && self.tree.entries(existing).is_some()
        {
            self.set_meta(existing, meta);
            self.tree.link_in(dir, name, existing, self.layer)?;
            return Ok(existing);
        }
        let id = self.tree.add(Node { meta, kind });
        self.tree.link_in(dir, name, id, self.layer)?;
        Ok(id)
    }

    /// Gives what is at `target` a further name.
    ///
    /// # Errors
    /// [`Failure::Input`] if there is nothing at `target`, or a directory.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Failure> {
        let from = clean_path(target);
        let found = match from.split_last() {
            Some((name, parents)) => {
                let dir = self.existing(target, parents)?;
                dir.and_then(|dir| self.tree.lookup(dir, name))
            }
            None => None,
        };
        let Some(node) = found.filter(|n| self.tree.entries(*n).is_none()) else {
            return Err(bad(path, &format!("a hard link to {}, which is no file here", shown(target))));
        };
        let components = clean_path(path);
        let Some((name, parents)) = components.split_last() else {
            return Err(bad(path, "the root can only be a directory"));
        };
        let dir = self.directory(path, parents)?;
        self.tree.link_in(dir, name, node, self.layer)
    }

    /// Takes away what layers below have at `path`.
    ///
    /// # Errors
    /// [`Failure::Input`] for a path that cannot be.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), Failure> {
        let components = clean_path(path);
        let Some((name, parents)) = components.split_last() else {
            return Err(bad(path, "a whiteout of the root"));
        };
        let Some(dir) = self.existing(path, parents)? else { return Ok(()) };
        let Some(entry) = self.tree.entries(dir).and_then(|e| e.get(*name)).copied() else { return Ok(()) };
        if entry.layer == self.layer {
            // This layer has put something there itself: only what is older beneath it goes.
            self.purge(entry.node);
        } else if let Some(entries) = self.tree.entries_mut(dir) {
            entries.remove(*name);
        }
        Ok(())
    }

    /// Takes away all that layers below have in the directory `path`.
    ///
    /// # Errors
    /// [`Failure::Input`] for a path that cannot be.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), Failure> {
        if let Some(dir) = self.existing(path, &clean_path(path))? {
            self.purge(dir);
        }
        Ok(())
    }

    /// Takes away what is beneath a directory and not of this layer.
    fn purge(&mut self, dir: NodeId) {
        let mut waiting = vec![dir];
        while let Some(dir) = waiting.pop() {
            let layer = self.layer;
            if let Some(entries) = self.tree.entries_mut(dir) {
                entries.retain(|_, entry| entry.layer == layer);
                waiting.extend(entries.values().map(|e| e.node));
            }
        }
    }

    fn set_meta(&mut self, id: NodeId, meta: Meta) {
        if let Some(node) = self.tree.node_mut(id) {
            node.meta = meta;
        }
    }

    /// The directory of these components, which is made where it is not there.
    fn directory(&mut self, path: &[u8], components: &[&[u8]]) -> Result<NodeId, Failure> {
        self.walk(path, components, true)?.ok_or_else(|| bad(path, "it has no directory"))
    }

    /// The directory of these components, if there is one.
    fn existing(&mut self, path: &[u8], components: &[&[u8]]) -> Result<Option<NodeId>, Failure> {
        self.walk(path, components, false)
    }

    /// Follows components from the root, through symbolic links of the tree, which never leave it. With `make`,
    /// directories on the way are made and count as touched by this layer.
    fn walk(&mut self, path: &[u8], components: &[&[u8]], make: bool) -> Result<Option<NodeId>, Failure> {
        let mut todo: Vec<Vec<u8>> = components.iter().rev().map(|c| c.to_vec()).collect();
        let mut stack = vec![Tree::ROOT];
        let mut links = 0u32;
        while let Some(name) = todo.pop() {
            let dir = stack.last().copied().unwrap_or(Tree::ROOT);
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let found = self.tree.lookup(dir, &name);
            let next = match found.and_then(|id| self.tree.node(id).map(|n| (id, &n.kind))) {
                Some((id, Kind::Directory(_))) => id,
                Some((_, Kind::Symlink(target))) => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        return Err(bad(path, "more symbolic links on the way than Linux follows"));
                    }
                    if target.first() == Some(&b'/') {
                        stack.truncate(1);
                    }
                    todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                    continue;
                }
                _ if !make => return Ok(None),
                _ => self.tree.add(unnamed_directory()),
            };
            if make {
                self.tree.link_in(dir, &name, next, self.layer)?;
            }
            stack.push(next);
        }
        Ok(stack.last().copied())
    }
}

fn bad(path: &[u8], reason: &str) -> Failure {
    Failure::input(shown(path), reason, "leave it out of the layer, or by --exclude")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(layers: &mut Layers, path: &str) {
        layers.put(path.as_bytes(), Meta::default(), Kind::Fifo).unwrap();
    }

    fn paths(layers: &Layers) -> Vec<String> {
        let mut out = Vec::new();
        let mut tree = layers.tree.clone();
        tree.prune(|path, _| {
            out.push(String::from_utf8_lossy(path).into_owned());
            false
        });
        out.sort();
        out
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        assert_eq!(clean_path(b"/../../a/./b//../c"), [b"a", b"c"]);
        let mut layers = Layers::new();
        layers.put(b"l", Meta::default(), Kind::Symlink(b"../../../../x/..".to_vec())).unwrap();
        file(&mut layers, "l/../../../y");
        layers.put(b"abs", Meta::default(), Kind::Symlink(b"/d".to_vec())).unwrap();
        file(&mut layers, "abs/e");
        assert_eq!(paths(&layers), ["abs", "d", "d/e", "l", "y"]);
    }

    #[test]
    fn links_in_a_circle_end() {
        let mut layers = Layers::new();
        layers.put(b"a", Meta::default(), Kind::Symlink(b"b".to_vec())).unwrap();
        layers.put(b"b", Meta::default(), Kind::Symlink(b"a".to_vec())).unwrap();
        assert!(layers.put(b"a/x", Meta::default(), Kind::Fifo).is_err());
    }

    #[test]
    fn whiteouts_take_what_is_below_only() {
        let mut layers = Layers::new();
        for path in ["d/old", "d/sub/old", "gone/x", "kept"] {
            file(&mut layers, path);
        }
        layers.begin_layer();
        file(&mut layers, "d/new");
        file(&mut layers, "d/sub/new");
        layers.opaque(b"d").unwrap();
        layers.whiteout(b"gone").unwrap();
        layers.whiteout(b"never").unwrap();
        file(&mut layers, "kept");
        layers.whiteout(b"kept").unwrap();
        assert_eq!(paths(&layers), ["d", "d/new", "d/sub", "d/sub/new", "kept"]);
    }

    #[test]
    fn hard_links_share_a_node() {
        let mut layers = Layers::new();
        file(&mut layers, "a");
        layers.hard_link(b"d/b", b"/a").unwrap();
        let d = layers.tree.lookup(Tree::ROOT, b"d").unwrap();
        assert_eq!(layers.tree.lookup(d, b"b"), layers.tree.lookup(Tree::ROOT, b"a"));
        assert!(layers.hard_link(b"e", b"d").is_err() && layers.hard_link(b"e", b"none").is_err());
    }
}
