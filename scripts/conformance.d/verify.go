// Verify a log as files with golang.org/x/mod/sumdb: verify LABEL FOLDER
//
// FOLDER is what tests/vectors/make.py writes. One line says what was verified, each begins with
// LABEL; the exit code is 1 if anything failed.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// log is a folder, and the key of the log in it.
type log struct {
	folder   string
	verifier note.Verifier
}

func main() {
	label, folder := os.Args[1], os.Args[2]
	failed := false
	for _, step := range []struct {
		what string
		run  func(log) error
	}{
		{"signatures of checkpoints (note.Open)", verifyCheckpoints},
		{"every root and tile, built again from the entries (tlog.StoredHashes)", verifyTiles},
		{"inclusion proofs of receipts, and its own (tlog.CheckRecord)", verifyReceipts},
		{"consistency proofs, and its own (tlog.CheckTree)", verifyConsistency},
		{"changed checkpoints, tiles and proofs, and a fork, are refused", verifyRefusals},
	} {
		l, err := open(folder)
		if err == nil {
			err = step.run(l)
		}
		if err != nil {
			failed = true
			fmt.Printf("%s, %s: failed (%v)\n", label, step.what, err)
			continue
		}
		fmt.Printf("%s, %s: ok\n", label, step.what)
	}
	if failed {
		os.Exit(1)
	}
}

func open(folder string) (log, error) {
	vkey, err := os.ReadFile(filepath.Join(folder, "keys", "log.vkey"))
	if err != nil {
		return log{}, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	return log{folder, verifier}, err
}

// checkpoint returns the tree in a signed note.
func (l log) checkpoint(data []byte) (tlog.Tree, error) {
	opened, err := note.Open(data, note.VerifierList(l.verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != l.verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func (l log) read(path ...string) (tlog.Tree, error) {
	data, err := os.ReadFile(filepath.Join(append([]string{l.folder}, path...)...))
	if err != nil {
		return tlog.Tree{}, err
	}
	return l.checkpoint(data)
}

// tiles reads tiles as files; with spoilt, each has its last bit flipped.
type tiles struct {
	folder string
	spoilt bool
}

func (t tiles) Height() int { return height }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		// tlog-tiles leaves out the height that Go's paths have.
		path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
		data, err := os.ReadFile(filepath.Join(t.folder, "log", "tile", path))
		if err != nil {
			return nil, err
		}
		if t.spoilt {
			data[len(data)-1] ^= 1
		}
		found = append(found, data)
	}
	return found, nil
}

// nodes reads nodes that are proven to be of the tree.
func (l log) nodes(tree tlog.Tree) tlog.HashReader {
	return tlog.TileHashReader(tree, tiles{folder: l.folder})
}

// checkpoints returns the trees of all sizes that have one.
func (l log) checkpoints() ([]tlog.Tree, error) {
	files, err := os.ReadDir(filepath.Join(l.folder, "checkpoints"))
	if err != nil {
		return nil, err
	}
	var trees []tlog.Tree
	for _, file := range files {
		tree, err := l.read("checkpoints", file.Name())
		if err != nil {
			return nil, err
		}
		if file.Name() != strconv.FormatInt(tree.N, 10) {
			return nil, fmt.Errorf("checkpoint %s is of size %d", file.Name(), tree.N)
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

func verifyCheckpoints(l log) error {
	if _, err := l.checkpoints(); err != nil {
		return err
	}
	cosigned, err := l.read("cosigned-checkpoint")
	if err != nil {
		return err
	}
	last, err := l.read("log", "checkpoint")
	if err == nil && last != cosigned {
		err = errors.New("a cosignature changed the checkpoint")
	}
	return err
}

// verifyTiles builds the tree again from the entries. The reader of tiles is not relied on for
// this: before x/mod 0.40 it accepted some changed tiles (CVE-2026-56865).
func verifyTiles(l log) error {
	tree, err := l.read("log", "checkpoint")
	if err != nil {
		return err
	}
	nodes, err := l.build(tree)
	if err != nil {
		return err
	}
	if err := l.verifyRoots(nodes); err != nil {
		return err
	}
	for level := 0; tree.N>>(height*level) > 0; level++ {
		count := tree.N >> (height * level)
		for first := int64(0); first < count; first += 1 << height {
			if err := l.verifyTile(tileOf(level, first, count), nodes); err != nil {
				return err
			}
		}
	}
	return nil
}

// build returns the nodes of the tree, in the order in which Go stores them.
func (l log) build(tree tlog.Tree) (tlog.HashReader, error) {
	var nodes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, nodes[index])
		}
		return found, nil
	})
	for first := int64(0); first < tree.N; first += 1 << height {
		entries, err := l.bundle(tree, first)
		if err != nil {
			return nil, fmt.Errorf("entries from %d on: %w", first, err)
		}
		for i, entry := range entries {
			added, err := tlog.StoredHashes(first+int64(i), entry, reader)
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, added...)
		}
	}
	return reader, nil
}

// verifyRoots compares the root at every size that has a checkpoint.
func (l log) verifyRoots(nodes tlog.HashReader) error {
	trees, err := l.checkpoints()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		root, err := tlog.TreeHash(tree.N, nodes)
		if err != nil {
			return err
		}
		// Older copies of x/mod give zeros as the root of the empty tree.
		if root != tree.Hash && (tree.N > 0 || root != (tlog.Hash{})) {
			return fmt.Errorf("the root at size %d is %v, not %v", tree.N, root, tree.Hash)
		}
	}
	return nil
}

func (l log) verifyTile(tile tlog.Tile, nodes tlog.HashReader) error {
	expected, err := tlog.ReadTileData(tile, nodes)
	if err != nil {
		return err
	}
	found, err := tiles{folder: l.folder}.ReadTiles([]tlog.Tile{tile})
	if err == nil && !bytes.Equal(found[0], expected) {
		err = fmt.Errorf("%s is another", tile.Path())
	}
	return err
}

// tileOf returns the tile that begins with a node, of a level that has so many.
func tileOf(level int, first, count int64) tlog.Tile {
	width := count - first
	if width > 1<<height {
		width = 1 << height
	}
	return tlog.Tile{H: height, L: level, N: first >> height, W: int(width)}
}

// bundle returns the entries of a tile, which must hold exactly those that the tree has.
func (l log) bundle(tree tlog.Tree, first int64) ([][]byte, error) {
	tile := tileOf(0, first, tree.N)
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/0/", height))
	data, err := os.ReadFile(filepath.Join(l.folder, "log", "tile", "entries", path))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) >= 2 {
		length := 2 + int(binary.BigEndian.Uint16(data))
		if length > len(data) {
			break
		}
		entries = append(entries, data[2:length])
		data = data[length:]
	}
	if len(data) != 0 || len(entries) != tile.W {
		return nil, fmt.Errorf("the bundle holds %d entries, not %d", len(entries), tile.W)
	}
	return entries, nil
}

func (l log) entry(tree tlog.Tree, index int64) ([]byte, error) {
	first := index &^ (1<<height - 1)
	entries, err := l.bundle(tree, first)
	if err != nil {
		return nil, err
	}
	return entries[index-first], nil
}

// receipt is a tlog-proof.
type receipt struct {
	index int64
	proof tlog.RecordProof
	tree  tlog.Tree
}

func (l log) receipt(path string) (receipt, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return receipt{}, err
	}
	head, signed, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return receipt{}, errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return receipt{}, err
	}
	proof, err := parseHashes(lines[2:])
	if err != nil {
		return receipt{}, err
	}
	tree, err := l.checkpoint(signed)
	return receipt{index, proof, tree}, err
}

func parseHashes(lines []string) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, line := range lines {
		data, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(data) != tlog.HashSize {
			return nil, fmt.Errorf("not a hash: %q", line)
		}
		var hash tlog.Hash
		copy(hash[:], data)
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

func verifyReceipts(l log) error {
	last, err := l.read("log", "checkpoint")
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(l.folder, "receipts", "*"))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("no receipts: %v", err)
	}
	for _, path := range paths {
		r, err := l.receipt(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		entry, err := l.entry(last, r.index)
		if err != nil {
			return err
		}
		leaf := tlog.RecordHash(entry)
		if err := tlog.CheckRecord(r.proof, r.tree.N, r.tree.Hash, r.index, leaf); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		proof, err := tlog.ProveRecord(last.N, r.index, l.nodes(last))
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, last.N, last.Hash, r.index, leaf); err != nil {
			return err
		}
	}
	return nil
}

// growth is a consistency proof with the trees it is between.
type growth struct {
	old, grown tlog.Tree
	proof      tlog.TreeProof
}

func (l log) growths() ([]growth, error) {
	paths, err := filepath.Glob(filepath.Join(l.folder, "consistency", "*"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no consistency proofs: %v", err)
	}
	var found []growth
	for _, path := range paths {
		from, to, _ := strings.Cut(filepath.Base(path), "-to-")
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		proof, err := parseHashes(strings.Fields(string(data)))
		if err != nil {
			return nil, err
		}
		old, err := l.read("checkpoints", from)
		if err != nil {
			return nil, err
		}
		grown, err := l.read("checkpoints", to)
		if err != nil {
			return nil, err
		}
		found = append(found, growth{old, grown, proof})
	}
	return found, nil
}

func (g growth) verify(proof tlog.TreeProof) error {
	return tlog.CheckTree(proof, g.grown.N, g.grown.Hash, g.old.N, g.old.Hash)
}

func verifyConsistency(l log) error {
	last, err := l.read("log", "checkpoint")
	if err != nil {
		return err
	}
	growths, err := l.growths()
	if err != nil {
		return err
	}
	for _, g := range growths {
		if err := g.verify(g.proof); err != nil {
			return fmt.Errorf("from %d to %d: %w", g.old.N, g.grown.N, err)
		}
		if g.grown != last {
			continue
		}
		proof, err := tlog.ProveTree(last.N, g.old.N, l.nodes(last))
		if err != nil {
			return err
		}
		if err := g.verify(proof); err != nil {
			return err
		}
	}
	return nil
}

func verifyRefusals(l log) error {
	last, err := l.read("log", "checkpoint")
	if err != nil {
		return err
	}
	fork, err := l.read("forked-checkpoint")
	if err != nil {
		return err
	}
	spoilt := tlog.TileHashReader(last, tiles{folder: l.folder, spoilt: true})
	if _, err := spoilt.ReadHashes([]int64{0}); err == nil {
		return errors.New("a changed tile was accepted")
	}
	if _, err := l.nodes(fork).ReadHashes([]int64{0}); err == nil {
		return errors.New("a fork was accepted")
	}
	growths, err := l.growths()
	if err != nil {
		return err
	}
	for _, g := range growths {
		forked := growth{g.old, fork, g.proof}
		if forked.verify(g.proof) == nil {
			return errors.New("the growth of a fork was accepted")
		}
		if g.verify(append(g.proof[:len(g.proof):len(g.proof)], g.proof[0])) == nil {
			return errors.New("a longer consistency proof was accepted")
		}
	}
	return l.verifyNoteIsRefused()
}

func (l log) verifyNoteIsRefused() error {
	data, err := os.ReadFile(filepath.Join(l.folder, "log", "checkpoint"))
	if err != nil {
		return err
	}
	// Any other character of the root is another root.
	place := bytes.LastIndex(data, []byte("\n\n")) - 5
	data[place] ^= 1
	if _, err := note.Open(data, note.VerifierList(l.verifier)); err == nil {
		return errors.New("a changed checkpoint was accepted")
	}
	return nil
}
