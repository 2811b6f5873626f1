/*
 * Follows conntrack events with libmnl, as its own examples do (nfct-event.c, nfct-dump.c), but writes nothing: it
 * reads the attributes of each message, and those of both tuples. On SIGINT or SIGTERM it prints how many events there
 * were, and ends.
 *
 *	libmnl BUFFER_BYTES
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nf_conntrack_common.h>

struct tuple {
	uint32_t src, dst;
	uint16_t sport, dport;
	uint8_t protocol;
};

static volatile sig_atomic_t is_over;
static uint64_t received;
/* Takes what was read, so that the compiler does not remove the reading. */
static volatile struct tuple sink;

static void end(int signal)
{
	(void)signal;
	is_over = 1;
}

/* Stores an attribute under its type, up to the highest that the caller knows. */
struct table {
	const struct nlattr **attributes;
	uint16_t max;
};

static int file_attribute(const struct nlattr *attribute, void *data)
{
	struct table *table = data;

	if (mnl_attr_type_valid(attribute, table->max) >= 0)
		table->attributes[mnl_attr_get_type(attribute)] = attribute;
	return MNL_CB_OK;
}

static void read_addresses(const struct nlattr *nest, struct tuple *tuple)
{
	const struct nlattr *found[CTA_IP_MAX + 1] = { NULL };
	struct table table = { found, CTA_IP_MAX };

	mnl_attr_parse_nested(nest, file_attribute, &table);
	if (found[CTA_IP_V4_SRC])
		tuple->src = mnl_attr_get_u32(found[CTA_IP_V4_SRC]);
	if (found[CTA_IP_V4_DST])
		tuple->dst = mnl_attr_get_u32(found[CTA_IP_V4_DST]);
}

static void read_ports(const struct nlattr *nest, struct tuple *tuple)
{
	const struct nlattr *found[CTA_PROTO_MAX + 1] = { NULL };
	struct table table = { found, CTA_PROTO_MAX };

	mnl_attr_parse_nested(nest, file_attribute, &table);
	if (found[CTA_PROTO_NUM])
		tuple->protocol = mnl_attr_get_u8(found[CTA_PROTO_NUM]);
	if (found[CTA_PROTO_SRC_PORT])
		tuple->sport = mnl_attr_get_u16(found[CTA_PROTO_SRC_PORT]);
	if (found[CTA_PROTO_DST_PORT])
		tuple->dport = mnl_attr_get_u16(found[CTA_PROTO_DST_PORT]);
}

static void read_tuple(const struct nlattr *nest)
{
	const struct nlattr *found[CTA_TUPLE_MAX + 1] = { NULL };
	struct table table = { found, CTA_TUPLE_MAX };
	struct tuple tuple = { 0 };

	mnl_attr_parse_nested(nest, file_attribute, &table);
	if (found[CTA_TUPLE_IP])
		read_addresses(found[CTA_TUPLE_IP], &tuple);
	if (found[CTA_TUPLE_PROTO])
		read_ports(found[CTA_TUPLE_PROTO], &tuple);
	sink = tuple;
}

static int read_event(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *found[CTA_MAX + 1] = { NULL };
	struct table table = { found, CTA_MAX };

	(void)data;
	mnl_attr_parse(message, sizeof(struct nfgenmsg), file_attribute, &table);
	if (found[CTA_TUPLE_ORIG])
		read_tuple(found[CTA_TUPLE_ORIG]);
	if (found[CTA_TUPLE_REPLY])
		read_tuple(found[CTA_TUPLE_REPLY]);
	received++;
	return MNL_CB_OK;
}

static struct mnl_socket *listen_to_conntrack(int buffer_bytes)
{
	const unsigned int groups = NF_NETLINK_CONNTRACK_NEW |
		NF_NETLINK_CONNTRACK_UPDATE | NF_NETLINK_CONNTRACK_DESTROY;
	struct mnl_socket *socket = mnl_socket_open(NETLINK_NETFILTER);
	int on = 1;

	if (!socket)
		return NULL;
	if (setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes,
		       sizeof(buffer_bytes)) < 0 ||
	    mnl_socket_setsockopt(socket, NETLINK_NO_ENOBUFS, &on, sizeof(on)) < 0 ||
	    mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0)
		return NULL;
	return socket;
}

/* Returns after a signal, or with an error. */
static int receive(struct mnl_socket *socket)
{
	char buffer[MNL_SOCKET_BUFFER_SIZE];

	while (!is_over) {
		ssize_t length = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));

		if (length < 0 && errno != EINTR)
			return -1;
		if (length > 0 && mnl_cb_run(buffer, length, 0, 0, read_event, NULL) < 0)
			return -1;
	}
	return 0;
}

int main(int argc, char *argv[])
{
	const struct sigaction action = { .sa_handler = end }; /* without SA_RESTART: a receive is interrupted */
	struct mnl_socket *socket;

	if (argc != 2) {
		fprintf(stderr, "usage: %s BUFFER_BYTES\n", argv[0]);
		return 2;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	socket = listen_to_conntrack(atoi(argv[1]));
	if (!socket || receive(socket) < 0) {
		perror(argv[0]);
		return 1;
	}
	printf("%llu\n", (unsigned long long)received);
	return 0;
}
