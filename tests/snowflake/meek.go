// The bridge's end of meek (doc/meek-spec.txt of the Tor Project's meek): a stream in the bodies of requests and of their answers.
package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	pt "git.torproject.org/pluggable-transports/goptlib.git"
)

const (
	// No body has more bytes.
	maxBody = 0x10000
	// How long an answer waits for something to say.
	turnaround = 50 * time.Millisecond
	// What the Host of a request begins with, whatever front it came by: a front brings nobody else's requests.
	own = "meek."
)

// The streams of clients, by what they call them. None is forgotten: it all ends with its bridge.
type meek struct {
	info    *pt.ServerInfo
	lock    sync.Mutex
	streams map[string]net.Conn
}

func serveMeek(at pt.Bindaddr, info *pt.ServerInfo) error {
	listener, err := net.ListenTCP("tcp", at.Addr)
	if err != nil {
		return err
	}
	go http.Serve(listener, &meek{info: info, streams: make(map[string]net.Conn)})
	pt.Smethod(at.MethodName, listener.Addr())
	return nil
}

func (m *meek) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Host, own) {
		http.NotFound(w, r)
		return
	}
	answer, err := m.exchange(r.Header.Get("X-Session-Id"), http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Write(answer)
}

// What the client says goes to tor, and what tor has to say goes back.
func (m *meek) exchange(session string, said io.Reader) ([]byte, error) {
	tor, err := m.stream(session)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(tor, said); err != nil {
		return nil, err
	}
	answer := make([]byte, maxBody)
	if err := tor.SetReadDeadline(time.Now().Add(turnaround)); err != nil {
		return nil, err
	}
	n, err := tor.Read(answer)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		err = nil
	}
	return answer[:n], err
}

func (m *meek) stream(session string) (net.Conn, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if tor, known := m.streams[session]; known {
		return tor, nil
	}
	tor, err := pt.DialOr(m.info, "", "meek")
	if err == nil {
		m.streams[session] = tor
	}
	return tor, err
}
