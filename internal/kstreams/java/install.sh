#!/bin/sh
# Installs what the comparison with Kafka Streams needs, a JDK of 17 or later and Maven,
# with the system's package manager, unless both are there.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

# release is the JDK's: 17 of "javac 17.0.15".
release() { javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'; }

enough() { have java && have javac && have mvn && [ "$(release)" -ge 17 ] 2>/dev/null; }

if enough; then
	exit 0
fi

as_root=
if [ "$(id -u)" != 0 ] && ! have brew; then
	if ! have sudo || ! sudo -n true 2>/dev/null; then
		echo "Java 17 or later (with javac) and Maven are missing, and only root can install them:" >&2
		echo "run this script as root ($0), or install them yourself." >&2
		exit 1
	fi
	as_root=sudo
fi

if have apt-get; then
	$as_root apt-get update -q
	DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends default-jdk-headless maven
elif have dnf; then
	$as_root dnf install -y java-devel maven
elif have zypper; then
	$as_root zypper --non-interactive install java-17-openjdk-devel maven
elif have apk; then
	$as_root apk add openjdk17-jdk maven
elif have pacman; then
	$as_root pacman -S --noconfirm --needed jdk-openjdk maven
elif have brew; then
	brew install openjdk maven
else
	echo "Java 17 or later (with javac) and Maven are missing, and this script knows no package manager" >&2
	echo "of this system; install them, or set JAVA_HOME and MAVEN_HOME." >&2
	exit 1
fi

if ! enough; then
	echo "After the installation there is still no Java 17 or later with javac, or no mvn, on the PATH;" >&2
	echo "set JAVA_HOME and MAVEN_HOME, or install another version." >&2
	exit 1
fi
