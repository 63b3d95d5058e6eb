package trace

import (
	"io"
	"testing"
)

func TestTheRoomOfABatchIsNotUsedAgainWhileSomebodyReadsIt(t *testing.T) {
	l := &loan{bytes: []byte("batch")}
	first, _ := l.lend()
	if _, err := io.ReadFull(first, make([]byte, 2)); err != nil || l.back() {
		t.Errorf("%v, back is %v while it is read", err, l.back())
	}
	again, _ := l.lend() // over another connection
	first.Close()
	first.Close()
	if got, err := io.ReadAll(again); string(got) != "batch" || err != nil || l.back() {
		t.Errorf("%q, %v, back is %v while another reads it", got, err, l.back())
	}
	again.Close()
	if !l.back() {
		t.Error("it is not back when all have closed it")
	}
	if n, err := first.Read(make([]byte, 2)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes are read of one that was given back, %v", n, err)
	}
}
