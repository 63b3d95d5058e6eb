package state

import (
	"cmp"
	"errors"
	"io/fs"
)

// memoryName is the file that holds what parts of a gateway know beyond its end.
const memoryName = "memory.json"

// mostMemory bounds that, in bytes.
const mostMemory = 1 << 20

// Remember keeps memory in place of what was kept. It outlives the process, however that
// ends; whether it outlives the machine, the machine knows, for it is written often.
func (s Folder) Remember(memory []byte) error {
	root, err := s.open(true)
	if err != nil {
		return err
	}
	defer root.Close()
	file, name, err := create(root)
	if err != nil {
		return err
	}
	_, err = file.Write(memory)
	if err = cmp.Or(err, file.Close()); err == nil {
		err = root.Rename(name, memoryName)
	}
	if err != nil {
		root.Remove(name)
	}
	return err
}

// Recall returns what Remember kept last; nil when there is nothing.
func (s Folder) Recall() ([]byte, error) {
	root, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	memory, err := readOwn(root, memoryName, mostMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return memory, err
}
