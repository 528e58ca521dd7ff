# What a package has beyond the programs: man pages, completions, units. Man pages and completions are made from
# the programs' own --help (packaging/reference.py) and docs/; without scdoc or python3 they are left out.
find_program(SCDOC scdoc)
find_package(Python3 3.9 COMPONENTS Interpreter QUIET)
option(PEERHUB_PACKAGE "Build for the packages of debian/: what is made from the programs has to be there" OFF)
if(PEERHUB_PACKAGE AND NOT (SCDOC AND Python3_FOUND AND TARGET peerhub-cli))
	message(FATAL_ERROR "PEERHUB_PACKAGE needs scdoc, python3 and the programs")
endif()
if(SCDOC AND Python3_FOUND AND TARGET peerhub-cli AND NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE)
	set(REFERENCE ${CMAKE_CURRENT_BINARY_DIR}/reference)
	file(GLOB REFERENCE_DOCS CONFIGURE_DEPENDS docs/peerhub*.md)
	add_custom_command(OUTPUT ${REFERENCE}/done
		COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/packaging/reference.sh ${CMAKE_CURRENT_BINARY_DIR} ${REFERENCE}
		DEPENDS peerhub-cli packaging/reference.py packaging/reference.sh packaging/libpeerhub.3.scd
			${REFERENCE_DOCS}
		WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} VERBATIM)
	add_custom_target(peerhub-reference ALL DEPENDS ${REFERENCE}/done)
	foreach(section 1 3 5)
		install(DIRECTORY ${REFERENCE}/man${section} DESTINATION ${CMAKE_INSTALL_MANDIR})
	endforeach()
	set(ZSH_PLACE site-functions)
	if(PEERHUB_PACKAGE)
		set(ZSH_PLACE vendor-completions)
	endif()
	install(FILES ${REFERENCE}/peerhub DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
	install(FILES ${REFERENCE}/_peerhub DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/${ZSH_PLACE})
	install(FILES ${REFERENCE}/peerhub.fish
		DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
if(TARGET peerhub-cli)
	install(FILES packaging/systemd/peerhub.service packaging/systemd/peerhub@.service
		packaging/systemd/peerhub.socket DESTINATION lib/systemd/system)
	install(FILES packaging/systemd/sysusers.conf DESTINATION lib/sysusers.d RENAME peerhub.conf)
	install(FILES packaging/systemd/tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME peerhub.conf)
endif()
