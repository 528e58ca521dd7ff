# The comparison programs: peers (other ways to write an echo server) and the load generator. They are
# never installed; a peer whose library is not there is not built.
option(PEERHUB_BENCH_PEERS "Build the comparison servers and peerhub-load" OFF)
if(NOT PEERHUB_BENCH_PEERS)
	return()
endif()

set(PEERHUB_PEERS_DIR ${CMAKE_BINARY_DIR}/bench)
function(peerhub_bench_program name)
	add_executable(${name} ${ARGN})
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(${name} PRIVATE peerhub_flags OpenSSL::SSL OpenSSL::Crypto)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PEERHUB_PEERS_DIR})
endfunction()

add_library(peer_common STATIC bench/peers/peer.c bench/peers/session.c)
target_include_directories(peer_common PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(peer_common PUBLIC peerhub_flags OpenSSL::SSL OpenSSL::Crypto)

# peerhub_peer(NAME SOURCES... LIBRARIES...)
function(peerhub_peer name source)
	peerhub_bench_program(peer-${name} ${source})
	target_link_libraries(peer-${name} PRIVATE peer_common ${ARGN})
endfunction()

file(GLOB LOAD_SOURCES CONFIGURE_DEPENDS bench/load/*.c)
peerhub_bench_program(peerhub-load ${LOAD_SOURCES} stress/histogram.c)

peerhub_peer(epoll bench/peers/epoll.c)
peerhub_peer(uring bench/peers/uring.c PkgConfig::URING)
# What a hub relays, on the engine's public interface.
add_executable(peer-relay bench/peers/relay.c bench/echo/trust.c hub/relay.c hub/text.c)
target_include_directories(peer-relay PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(peer-relay PRIVATE peer_common peerhub ${PEERHUB_DEPS})
set_target_properties(peer-relay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PEERHUB_PEERS_DIR})

# The engine as a dialler.
add_executable(peerhub-dial bench/dial/main.c bench/dial/options.c bench/echo/trust.c bench/load/server.c
	stress/histogram.c)
target_include_directories(peerhub-dial PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(peerhub-dial PRIVATE peerhub_flags peerhub ${PEERHUB_DEPS})
set_target_properties(peerhub-dial PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PEERHUB_PEERS_DIR})

# peerhub_peer_if(NAME SOURCE PACKAGES...): only where pkg-config knows the packages.
function(peerhub_peer_if name source)
	string(TOUPPER PEER_${name} prefix)
	pkg_check_modules(${prefix} IMPORTED_TARGET ${ARGN})
	if(${prefix}_FOUND)
		peerhub_peer(${name} ${source} PkgConfig::${prefix})
	else()
		message(STATUS "peer-${name} is not built: no ${ARGN}")
	endif()
endfunction()
peerhub_peer_if(libuv bench/peers/libuv.c libuv)
peerhub_peer_if(libevent bench/peers/libevent.c libevent libevent_openssl)
peerhub_peer_if(zmq bench/peers/zmq.c libzmq)
if(PEER_ZMQ_FOUND)
	target_compile_definitions(peerhub-load PRIVATE LOAD_HAS_ZMQ=1)
	target_link_libraries(peerhub-load PRIVATE PkgConfig::PEER_ZMQ)
endif()
find_library(PEER_NNG_LIBRARY nng)
if(PEER_NNG_LIBRARY)
	peerhub_peer(nng bench/peers/nng.c ${PEER_NNG_LIBRARY} Threads::Threads)
endif()
find_path(PEER_ASIO_INCLUDE boost/asio.hpp)
if(PEER_ASIO_INCLUDE)
	peerhub_peer(asio bench/peers/asio.cc Threads::Threads)
	target_include_directories(peer-asio SYSTEM PRIVATE ${PEER_ASIO_INCLUDE})
endif()

configure_file(bench/peers/pki.sh ${PEERHUB_PEERS_DIR}/peer-pki COPYONLY
	FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
	WORLD_READ WORLD_EXECUTE)
