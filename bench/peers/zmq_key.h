/*
 * The key pair of peer-zmq's CURVE server, for measurements on one machine. It is public here, so it
 * protects nothing; a client needs the public half to know its server.
 */
#ifndef PEERHUB_BENCH_ZMQ_KEY_H
#define PEERHUB_BENCH_ZMQ_KEY_H

#define PEER_ZMQ_PUBLIC "l}$3u2*]4Z(uv(oVF7toI.=]8Ym4F1mzMP?/x}#Q"
#define PEER_ZMQ_SECRET "C-Sw84R=/pdU-zZS{ILCmLCu(H0BfDl7*v^eJpwg"

#endif
