/*
 * sockets: makes exactly COUNT calls of one system call that connects, accepts or receives.
 *
 *   sockets FAMILY SYSCALL COUNT [options]
 *
 *   FAMILY   tcp4 tcp6 udp4 udp6 unix_stream unix_dgram unix_seqpacket
 *   SYSCALL  connect         each on a new socket
 *            accept accept4  stream and seqpacket families only
 *            read readv recv recvfrom recvmsg recvmmsg
 *   --start-on-stdin    print "ready PID 0", wait for a line on stdin, then call
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * The other side is a process of its own, named "peer". What is accepted has been
 * connected, and what is received has been sent, before the calls begin, as far as
 * queues allow; so a call that fails leaves the queue as it was.
 *
 * Output: one line of JSON. ok + failed = count; "times_ns" is the wall time of each call.
 * Exit 0; 1 on an error of the program itself; 2 for bad arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERRNO_MAX 4096
#define SIZE 64

enum call {
	CALL_CONNECT,
	CALL_ACCEPT,
	CALL_ACCEPT4,
	CALL_READ,
	CALL_READV,
	CALL_RECV,
	CALL_RECVFROM,
	CALL_RECVMSG,
	CALL_RECVMMSG,
	CALLS
};

static const char *const call_names[CALLS] = {
	"connect", "accept", "accept4", "read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg",
};

static const struct family {
	const char *name;
	int domain, type;
} families[] = {
	{ "tcp4", AF_INET, SOCK_STREAM },        { "tcp6", AF_INET6, SOCK_STREAM },
	{ "udp4", AF_INET, SOCK_DGRAM },         { "udp6", AF_INET6, SOCK_DGRAM },
	{ "unix_stream", AF_UNIX, SOCK_STREAM }, { "unix_dgram", AF_UNIX, SOCK_DGRAM },
	{ "unix_seqpacket", AF_UNIX, SOCK_SEQPACKET },
};

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static pid_t peer;

static void die(const char *what)
{
	perror(what);
	if (peer > 0)
		kill(peer, SIGKILL);
	exit(1);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: sockets FAMILY SYSCALL COUNT [--start-on-stdin] [--max-seconds N]\n");
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int new_socket(const struct family *family)
{
	int fd = socket(family->domain, family->type, 0);
	if (fd < 0)
		die("socket");
	return fd;
}

/* Binds to an address of loopback, or to an abstract unix name, that the kernel chooses. */
static socklen_t bind_any(const struct family *family, int fd, union address *at)
{
	memset(at, 0, sizeof(*at));
	at->any.sa_family = (sa_family_t)family->domain;
	socklen_t length = sizeof(sa_family_t);
	if (family->domain == AF_INET) {
		at->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		length = sizeof(at->in);
	} else if (family->domain == AF_INET6) {
		at->in6.sin6_addr = in6addr_loopback;
		length = sizeof(at->in6);
	}
	if (bind(fd, &at->any, length))
		die("bind");
	length = sizeof(*at);
	if (getsockname(fd, &at->any, &length))
		die("getsockname");
	return length;
}

/* Starts the other side; returns 0 in it. */
static pid_t start_peer(void)
{
	peer = fork();
	if (peer < 0)
		die("fork");
	if (peer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "peer");
	}
	return peer;
}

static int receive(enum call call, int fd)
{
	char data[SIZE];
	struct iovec iov = { data, sizeof(data) };
	struct mmsghdr message = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	ssize_t got = -1;
	switch (call) {
	case CALL_READ:
		got = read(fd, data, sizeof(data));
		break;
	case CALL_READV:
		got = readv(fd, &iov, 1);
		break;
	case CALL_RECV:
		got = recv(fd, data, sizeof(data), 0);
		break;
	case CALL_RECVFROM: {
		union address from;
		socklen_t length = sizeof(from);
		got = recvfrom(fd, data, sizeof(data), 0, &from.any, &length);
		break;
	}
	case CALL_RECVMSG:
		got = recvmsg(fd, &message.msg_hdr, 0);
		break;
	default:
		got = recvmmsg(fd, &message, 1, 0, NULL);
		break;
	}
	return got < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	bool wait_for_start = false;
	unsigned seconds = 120;
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (o == 's')
			wait_for_start = true;
		else if (o == 'm')
			seconds = (unsigned)strtoul(optarg, NULL, 10);
		else
			usage();
	}
	if (argc - optind != 3)
		usage();
	const struct family *family = NULL;
	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		if (!strcmp(argv[optind], families[i].name))
			family = &families[i];
	enum call call = CALLS;
	for (int i = 0; i < CALLS; i++)
		if (!strcmp(argv[optind + 1], call_names[i]))
			call = (enum call)i;
	size_t count = strtoul(argv[optind + 2], NULL, 10);
	bool datagrams = family && family->type == SOCK_DGRAM;
	bool accepts = call == CALL_ACCEPT || call == CALL_ACCEPT4;
	if (!family || call == CALLS || !count || count > 1000 || (datagrams && accepts))
		usage();
	alarm(seconds);

	int listener = new_socket(family), fd = -1;
	union address at;
	socklen_t length = bind_any(family, listener, &at);
	if (!datagrams && listen(listener, 1000))
		die("listen");
	if (call == CALL_CONNECT) {
		/* Nobody accepts: the queue is long enough. */
	} else if (start_peer() == 0) {
		/* One socket for messages, a new one for each connection. */
		for (size_t i = 0, out = 0; i < count; i++) {
			if (accepts || !out) {
				out = (size_t)new_socket(family);
				if (connect((int)out, &at.any, length))
					die("connect");
			}
			char data[SIZE] = { 0 };
			if (!accepts && send((int)out, data, sizeof(data), 0) < 0)
				die("send");
		}
		pause();
		_exit(0);
	}
	if (!accepts && call != CALL_CONNECT) {
		fd = datagrams ? listener : accept(listener, NULL, NULL);
		if (fd < 0)
			die("accept");
	}

	if (wait_for_start) {
		char line[16];
		printf("ready %d 0\n", (int)getpid());
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			die("stdin");
	}

	static uint64_t errnos[ERRNO_MAX], times[1000];
	size_t ok = 0;
	for (size_t i = 0; i < count; i++) {
		int made = -1, result;
		if (call == CALL_CONNECT)
			made = new_socket(family);
		uint64_t start = now_ns();
		if (call == CALL_CONNECT)
			result = connect(made, &at.any, length);
		else if (call == CALL_ACCEPT)
			result = made = accept(listener, NULL, NULL);
		else if (call == CALL_ACCEPT4)
			result = made = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		else
			result = receive(call, fd);
		times[i] = now_ns() - start;
		if (result >= 0)
			ok++;
		else
			errnos[errno % ERRNO_MAX]++;
		if (made >= 0)
			close(made);
	}
	if (peer > 0) {
		kill(peer, SIGKILL);
		waitpid(peer, NULL, 0);
	}

	printf("{\"program\":\"sockets\",\"pid\":%d,\"family\":\"%s\",\"syscall\":\"%s\",\"count\":%zu,"
	       "\"ok\":%zu,\"failed\":%zu,\"errnos\":{",
	       (int)getpid(), family->name, call_names[call], count, ok, count - ok);
	const char *comma = "";
	for (int e = 0; e < ERRNO_MAX; e++) {
		if (!errnos[e])
			continue;
		printf("%s\"%s\":%" PRIu64, comma, strerrorname_np(e), errnos[e]);
		comma = ",";
	}
	printf("},\"times_ns\":[");
	for (size_t i = 0; i < count; i++)
		printf("%s%" PRIu64, i ? "," : "", times[i]);
	printf("]}\n");
	return 0;
}
