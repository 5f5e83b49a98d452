// What a private Snowflake needs and Debian has no packages of, made of Snowflake's own library (golang-snowflake-dev):
// `broker ADDRESS` brings clients and proxies together over plain HTTP; `stun ADDRESS` tells who asks its own address; without
// arguments it is the pluggable transports of a bridge, which tor starts (pt-spec): snowflake, to which proxies connect by WebSocket,
// and meek (meek.go).
//
// One broker, one bridge, no statistics, no kinds of NAT: a proxy is whoever asks first.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	pt "git.torproject.org/pluggable-transports/goptlib.git"
	"git.torproject.org/pluggable-transports/snowflake.git/common/encapsulation"
	"git.torproject.org/pluggable-transports/snowflake.git/common/messages"
	"git.torproject.org/pluggable-transports/snowflake.git/common/turbotunnel"
	"git.torproject.org/pluggable-transports/snowflake.git/common/websocketconn"
	"github.com/gorilla/websocket"
	"github.com/pion/stun"
	"github.com/xtaci/kcp-go"
	"github.com/xtaci/smux"
)

// How long a client waits for a proxy, and a proxy for a client.
const patience = 10 * time.Second

func main() {
	if len(os.Args) == 3 && os.Args[1] == "broker" {
		log.Fatal(http.ListenAndServe(os.Args[2], newBroker()))
	}
	if len(os.Args) == 3 && os.Args[1] == "stun" {
		log.Fatal(serveStun(os.Args[2]))
	}
	if err := serveBridge(); err != nil {
		log.Fatal(err)
	}
}

// A client that waits: what it offers, and where its answer goes.
type client struct {
	request *messages.ClientPollRequest
	answer  chan string
}

type broker struct {
	clients chan client
	lock    sync.Mutex
	// Clients that a proxy has taken, by what the proxy calls itself.
	taken map[string]client
}

func newBroker() http.Handler {
	b := &broker{clients: make(chan client), taken: make(map[string]client)}
	mux := http.NewServeMux()
	for path, handle := range map[string]func([]byte) ([]byte, error){"/client": b.client, "/proxy": b.proxy, "/answer": b.answer} {
		handle := handle
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100_000))
			if err == nil {
				body, err = handle(body)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Write(body)
		})
	}
	return mux
}

func (b *broker) client(body []byte) ([]byte, error) {
	request, err := messages.DecodeClientPollRequest(body)
	if err != nil {
		return nil, err
	}
	response := messages.ClientPollResponse{Error: messages.StrNoProxies}
	c := client{request, make(chan string, 1)}
	select {
	case b.clients <- c:
		select {
		case answer := <-c.answer:
			response = messages.ClientPollResponse{Answer: answer}
		case <-time.After(patience):
			response.Error = messages.StrTimedOut
		}
	case <-time.After(patience):
	}
	return response.EncodePollResponse()
}

func (b *broker) proxy(body []byte) ([]byte, error) {
	sid, _, _, _, _, _, err := messages.DecodeProxyPollRequestWithRelayPrefix(body)
	if err != nil {
		return nil, err
	}
	select {
	case c := <-b.clients:
		b.lock.Lock()
		b.taken[sid] = c
		b.lock.Unlock()
		// Without the address of a bridge the proxy takes its own.
		return messages.EncodePollResponse(c.request.Offer, true, c.request.NAT)
	case <-time.After(patience):
		return messages.EncodePollResponse("", false, "")
	}
}

func (b *broker) answer(body []byte) ([]byte, error) {
	answer, sid, err := messages.DecodeAnswerRequest(body)
	if err != nil {
		return nil, err
	}
	b.lock.Lock()
	c, known := b.taken[sid]
	delete(b.taken, sid)
	b.lock.Unlock()
	if known {
		c.answer <- answer
	}
	return messages.EncodeAnswerResponse(known)
}

// RFC 5389, binding requests alone.
func serveStun(at string) error {
	socket, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	buffer := make([]byte, 1500)
	for {
		n, from, err := socket.ReadFrom(buffer)
		if err != nil {
			return err
		}
		request := stun.Message{Raw: append([]byte(nil), buffer[:n]...)}
		if request.Decode() != nil || request.Type != stun.BindingRequest {
			continue
		}
		seen := from.(*net.UDPAddr)
		response, err := stun.Build(&request, stun.BindingSuccess, &stun.XORMappedAddress{IP: seen.IP, Port: seen.Port})
		if err != nil {
			return err
		}
		if _, err := socket.WriteTo(response.Raw, from); err != nil {
			return err
		}
	}
}

func serveBridge() error {
	info, err := pt.ServerSetup(nil)
	if err != nil {
		return err
	}
	for _, at := range info.Bindaddrs {
		if at.MethodName == "meek" {
			if err := serveMeek(at, &info); err != nil {
				return err
			}
			continue
		}
		packets := turbotunnel.NewQueuePacketConn(at.Addr, time.Minute)
		sessions, err := kcp.ServeConn(nil, 0, 0, packets)
		if err != nil {
			return err
		}
		listener, err := net.ListenTCP("tcp", at.Addr)
		if err != nil {
			pt.SmethodError(at.MethodName, err.Error())
			continue
		}
		go acceptSessions(sessions, &info)
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
			if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
				carry(websocketconn.New(ws), packets)
			}
		}))
		pt.Smethod(at.MethodName, listener.Addr())
	}
	pt.SmethodsDone()
	// tor ends it by closing its input.
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// The packets of one client, through one of the proxies that it may have.
func carry(proxy net.Conn, packets *turbotunnel.QueuePacketConn) error {
	defer proxy.Close()
	var token [len(turbotunnel.Token)]byte
	var id turbotunnel.ClientID
	if _, err := io.ReadFull(proxy, token[:]); err != nil || token != turbotunnel.Token {
		return fmt.Errorf("no client of the turbo tunnel: %v", err)
	}
	if _, err := io.ReadFull(proxy, id[:]); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		defer proxy.Close()
		for {
			select {
			case packet := <-packets.OutgoingQueue(id):
				if _, err := encapsulation.WriteData(proxy, packet); err != nil {
					return
				}
			case <-ended:
				return
			}
		}
	}()
	for {
		packet, err := encapsulation.ReadData(proxy)
		if err != nil {
			return err
		}
		packets.QueueIncoming(packet, id)
	}
}

// A client's session is a stream over KCP, whatever proxies carry it; its settings are those of the client.
func acceptSessions(sessions *kcp.Listener, info *pt.ServerInfo) {
	for {
		conn, err := sessions.AcceptKCP()
		if err != nil {
			return
		}
		conn.SetStreamMode(true)
		conn.SetWindowSize(65535, 65535)
		conn.SetNoDelay(0, 0, 0, 1)
		config := smux.DefaultConfig()
		config.Version = 2
		config.KeepAliveTimeout = 10 * time.Minute
		go func() {
			defer conn.Close()
			session, err := smux.Server(conn, config)
			if err != nil {
				return
			}
			defer session.Close()
			for {
				stream, err := session.AcceptStream()
				if err != nil {
					return
				}
				go toTor(stream, info)
			}
		}()
	}
}

func toTor(stream net.Conn, info *pt.ServerInfo) {
	defer stream.Close()
	tor, err := pt.DialOr(info, "", "snowflake")
	if err != nil {
		return
	}
	defer tor.Close()
	go func() {
		io.Copy(tor, stream)
		tor.CloseWrite()
	}()
	io.Copy(stream, tor)
}
