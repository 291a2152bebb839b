//! What tasks bring from elsewhere: images and artifacts; verified, unpacked, cached.
